package observe

import (
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestReadinessFollowsThePartAndHealthDoesNot(t *testing.T) {
	ready, text := false, "waits for the portal"
	h := Probes(func() (bool, string) { return ready, text })
	ask := func(method, path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return w.Code, w.Body.String()
	}
	if code, body := ask("GET", "/readyz"); code != http.StatusServiceUnavailable || body != text+"\n" {
		t.Errorf("not ready: %d %q", code, body)
	}
	if code, body := ask("GET", "/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("alive: %d %q", code, body)
	}
	ready, text = true, "0123abcd"
	if code, body := ask("GET", "/readyz"); code != http.StatusOK || body != "0123abcd\n" {
		t.Errorf("ready: %d %q", code, body)
	}
	for _, c := range []struct {
		method, path string
		want         int
	}{{"POST", "/readyz", http.StatusMethodNotAllowed}, {"GET", "/metrics", http.StatusNotFound}} {
		if code, _ := ask(c.method, c.path); code != c.want {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, code, c.want)
		}
	}
}

func TestSeveralLabelsAndHistograms(t *testing.T) {
	_, body := ask(t, func() ([]Metric, bool) {
		return []Metric{
			{Name: "answers_total", Help: "Answers.", More: []Pair{{"kind", "a"}, {"code", "1"}}, Value: 4},
			{Name: "answers_total", Help: "Answers.", More: []Pair{{"kind", "b"}, {"code", ""}}, Value: 5},
			{Name: "size", Help: "Sizes.", Kind: Histogram, Value: 1234, Buckets: []Bucket{{100, 3}, {200, 0}, {math.Inf(1), 2}}},
		}, true
	}, "/metrics")
	for _, line := range []string{
		`answers_total{code="1",kind="a"} 4`, `answers_total{code="",kind="b"} 5`,
		`size_bucket{le="100"} 3`, `size_bucket{le="200"} 3`, `size_bucket{le="+Inf"} 5`, `size_sum 1234`, `size_count 5`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("no line %q in\n%s", line, body)
		}
	}
}

func TestTheKernelsCountersAreRead(t *testing.T) {
	got := parseSNMP([]byte("Tcp: RtoAlgorithm\nTcp: 1\nUdp: InDatagrams NoPorts RcvbufErrors\nUdp: 17 3 9\nUdpLite: InDatagrams\nUdpLite: 5\n"))
	if want := map[string]uint64{"UdpInDatagrams": 17, "UdpNoPorts": 3, "UdpRcvbufErrors": 9}; !maps.Equal(got, want) {
		t.Errorf("IPv4: %v, want %v", got, want)
	}
	got = parseSNMP6([]byte("Ip6InReceives                   	8\nUdp6RcvbufErrors                	7\nUdp6Odd  x\n"))
	if want := map[string]uint64{"Udp6RcvbufErrors": 7}; !maps.Equal(got, want) {
		t.Errorf("IPv6: %v, want %v", got, want)
	}
	for _, bad := range []string{"", "Udp:", "Udp:\nUdp: 1 2 3", "Udp: a b\nUdp: x", "\n\n"} {
		if got := parseSNMP([]byte(bad)); len(got) != 0 {
			t.Errorf("%q: %v", bad, got)
		}
	}
	all := KernelUDP("kernel_udp_total")
	for _, want := range []string{"UdpRcvbufErrors", "UdpSndbufErrors"} {
		found := false
		for _, m := range all {
			found = found || m.LabelValue == want && m.Name == "kernel_udp_total"
		}
		if !found {
			t.Errorf("this kernel has no %s: %v", want, all)
		}
	}
}
