package observe

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func sample() ([]Metric, bool) {
	return []Metric{
		{Name: "part_lost_total", Help: "What was lost.", Label: "why", LabelValue: "Full", Value: 3},
		{Name: "part_lost_total", Help: "What was lost.", Label: "why", LabelValue: "Late", Value: 0},
		{Name: "part_peers", Help: "Peers.", Kind: Gauge, Value: 7},
	}, true
}

func ask(t *testing.T, source Source, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	Handler(source).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Body.String()
}

func TestMetricsShowEveryNumberOfTheSource(t *testing.T) {
	code, body := ask(t, sample, "/metrics")
	if code != http.StatusOK {
		t.Fatalf("status %d: %s", code, body)
	}
	for _, line := range []string{
		"# TYPE part_lost_total counter", `part_lost_total{why="Full"} 3`, `part_lost_total{why="Late"} 0`,
		"# HELP part_peers Peers.", "# TYPE part_peers gauge", "part_peers 7", "# TYPE go_goroutines gauge",
	} {
		if !strings.Contains(body, line+"\n") && !strings.Contains(body, line) {
			t.Errorf("no line %q in\n%s", line, body)
		}
	}
}

func TestMetricsThatContradictEachOtherFailTheScrape(t *testing.T) {
	twice := func() ([]Metric, bool) {
		return []Metric{{Name: "part_peers", Help: "Peers.", Value: 1}, {Name: "part_peers", Help: "Peers.", Value: 2}}, true
	}
	if code, body := ask(t, twice, "/metrics"); code != http.StatusInternalServerError {
		t.Errorf("status %d: %s", code, body)
	}
}

func TestHealthFollowsTheSource(t *testing.T) {
	if code, body := ask(t, sample, "/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("alive: %d %q", code, body)
	}
	ended := func() ([]Metric, bool) { return nil, false }
	if code, _ := ask(t, ended, "/healthz"); code != http.StatusServiceUnavailable {
		t.Errorf("ended: %d", code)
	}
	if code, _ := ask(t, sample, "/else"); code != http.StatusNotFound {
		t.Errorf("another path: %d", code)
	}
}

func TestServeAnswersUntilItsContextEnds(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, sample) }()
	r, err := http.Get("http://" + l.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	r.Body.Close()
	if err != nil || !strings.Contains(string(body), "part_peers 7") {
		t.Errorf("%v: %s", err, body)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if again, err := Listen(l.Addr().String()); err != nil {
		t.Errorf("the address is not free again: %v", err)
	} else {
		again.Close()
	}
}

func TestListenRefusesWhatIsNoAddress(t *testing.T) {
	for _, addr := range []string{"", "9586", ":9586", "localhost:9586", "127.0.0.1", "127.0.0.1:99999", "::1:80:x"} {
		if l, err := Listen(addr); err == nil {
			l.Close()
			t.Errorf("%q was accepted", addr)
		}
	}
}
