package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the expected documents; the diff is the review")

// exampleRun has two rows of TCP and one of UDP and ping, what the client could send, three ways of
// one load, two repetitions, three gateways, and a measurement that failed.
func exampleRun() *Run {
	r := &Run{
		Machine: Machine{CPU: "Example <CPU>", Cores: 2, Kernel: "6.1", Go: "go1.26"},
		Date:    time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Seconds: 2, Reps: 2,
		Gateways:  []Version{{"firelane", "this work tree"}, {"wireguard-go", "v1"}, {"tailscale", "v2"}},
		TCPClient: "wireguard-go", UDPClient: "firelane", Wakeup: Wakeup{SameCPU: 2000, SameLatency: 2100, CrossCPU: 19000, CrossLatency: 12000},
		InMemory: []Benchmark{
			{Package: "example.org/p", Name: "Open/8-2", Iterations: 10, Metrics: []Metric{{"ns/op", 123.5}, {"allocs/op", 0}}},
			policyCost("flows=1000/run=1", 2, 3), policyCost("flows=1000/run=32", 1.1, 1.3), policyCost("flows=100000/run=32", 1.125, 1.2),
		},
		Translators: []Version{{"firelane + tayga", "as above, and tayga 1"}},
	}
	for rep := 1; rep <= 2; rep++ {
		for i, g := range r.Gateways {
			cost := float64(i+1) + float64(rep-1)/10
			for _, name := range []string{"tcp-up-1", "tcp-down-1"} {
				r.Samples = append(r.Samples, Sample{
					Row: Row{Name: name, Title: "TCP " + name, Kind: TCP, Down: name == "tcp-down-1"}, MTU: 1280, Gateway: g.Name, Rep: rep,
					User: cost / 2, System: cost / 2, Seconds: 2, Bytes: 1e9, Retransmits: 3, PeakRSS: 5 << 20, Switches: 1000,
				})
			}
			r.Samples = append(r.Samples, Sample{
				Row: Row{Name: "udp-64-up", Title: "UDP | up", Kind: UDP}, MTU: 1280, Gateway: g.Name, Rep: rep,
				User: 1, System: 1, Seconds: 2, Packets: uint64(400000 / (i*i*4 + 1)), Bytes: 64e5, SentPackets: 500000, Jitter: 7,
				UDPErrors: UDPErrors{Rcvbuf: 4},
			}, Sample{Row: Row{Name: "ping", Title: "idle ping", Kind: Ping, Paced: true}, MTU: 1280, Gateway: g.Name, Rep: rep, PingP50: 100, PingP99: 200})
		}
		r.Samples = append(r.Samples, exampleWays(rep)...)
	}
	at := slices.IndexFunc(r.Samples, func(s Sample) bool { return s.Rep == 2 && s.Gateway == "tailscale" && s.Row.Kind == Ping })
	r.Samples[at] = Sample{Row: Row{Name: "ping", Title: "idle ping", Kind: Ping, Paced: true}, MTU: 1280, Gateway: "tailscale", Rep: 2, Error: "no | answer"}
	return r
}

func policyCost(name string, nat, nat64 float64) Benchmark {
	return Benchmark{Package: "example.org/fastpath", Name: "PolicyCost/" + name + "-2", Iterations: 5,
		Metrics: []Metric{{"ns/op", 9}, {"nat/plain", nat}, {"nat64/plain", nat64}}}
}

// exampleWays are one repetition of what is not measured with each gateway.
func exampleWays(rep int) []Sample {
	up := func(w Way, cost, translator float64, gateway string) Sample {
		return Sample{
			Row: Row{Name: string(w) + "-tcp-up-1", Title: "TCP up", Kind: TCP, Way: w}, MTU: 1280, Gateway: gateway, Rep: rep,
			User: cost * float64(rep), Translator: translator * float64(rep), Seconds: 2, Bytes: 1e9,
		}
	}
	paced := Row{Name: "nat64-udp-31k-up", Title: "UDP up", Kind: UDP, Paced: true, Way: NAT64}
	return []Sample{
		{Row: Row{Name: "client-udp-64-up", Title: "UDP | up", Kind: Ceiling}, MTU: 1280, Gateway: Subject, Rep: rep, Seconds: 2, Packets: 440000, SentPackets: 500000},
		up(NAT64, 1.25, 0, Subject), up(Plain4, 1, 0, Subject), up(Plain6, 1, 0, Subject), up(NAT64, 3, 2, "firelane + tayga"),
		{Row: paced, MTU: 1280, Gateway: Subject, Rep: rep, User: 1, Seconds: 2, Packets: 61000, SentPackets: 62000},
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got\n%s", path, got)
	}
}

func TestMarkdownIsAsExpected(t *testing.T) {
	base := exampleRun()
	for i := range base.Samples {
		base.Samples[i].User *= 2
	}
	var b bytes.Buffer
	if err := exampleRun().Markdown(&b, base, "chart.svg"); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.md", b.Bytes())
}

func TestChartIsAsExpectedAndWellFormed(t *testing.T) {
	var b bytes.Buffer
	if err := exampleRun().SVG(&b, 1280); err != nil {
		t.Fatal(err)
	}
	golden(t, "chart.svg", b.Bytes())
	for d := xml.NewDecoder(&b); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestRunSurvivesItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run.json")
	want := exampleRun()
	if err := want.Save(path); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil {
		t.Error("a broken file was accepted")
	}
}

func TestSpreadOfOddEvenAndNone(t *testing.T) {
	if got, want := spread([]float64{3, 1, 2}), (Spread{Median: 2, Min: 1, Max: 3, N: 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := spread([]float64{4, 1}).Median; got != 2.5 {
		t.Errorf("median %v, want 2.5", got)
	}
	if got := spread(nil); got.N != 0 || !math.IsNaN(got.Median) {
		t.Errorf("got %+v for no values", got)
	}
}

func TestFloorsCompareMediansInTheRightDirection(t *testing.T) {
	r := exampleRun()
	find := func(name, rival string) Floor {
		i := slices.IndexFunc(r.Floors(1280, Subject), func(f Floor) bool { return strings.HasPrefix(f.Name, name) && f.Rival == rival })
		if i < 0 {
			t.Fatalf("no promise %q about %q", name, rival)
		}
		return r.Floors(1280, Subject)[i]
	}
	// Medians of the example: 1.05, 2.05 and 3.05 s/GB; 200,000, 40,000 and 11,764 packets/s.
	if f := find("CPU per GB, TCP up", "wireguard-go"); !f.Met || math.Abs(f.Got-1.05/2.05) > 1e-9 {
		t.Errorf("got %+v, want 0.51 and met", f)
	}
	if f := find("UDP delivered, saturating and 64 bytes, up", "wireguard-go"); !f.Met || math.Abs(f.Got-5) > 0.01 {
		t.Errorf("got %+v, want 5 and met", f)
	}
	if f := find("idle ping", "tailscale"); !f.Met {
		t.Errorf("got %+v, want met: equal is no worse", f)
	}
	if f := find("UDP errors in TCP rows", ""); !f.Met {
		t.Errorf("got %+v, want met: the errors are in a UDP row", f)
	}
	for i := range r.Samples {
		if r.Samples[i].Gateway == Subject {
			r.Samples[i].User, r.Samples[i].Packets = 10, 1
			r.Samples[i].UDPErrors.In = 1
		}
	}
	for _, name := range []string{"CPU per GB, TCP up", "UDP delivered, saturating and 64 bytes, up"} {
		if f := find(name, "wireguard-go"); f.Met {
			t.Errorf("got %+v, want not met", f)
		}
	}
	if f := find("UDP errors in TCP rows", ""); f.Met {
		t.Errorf("got %+v, want not met", f)
	}
}

func TestTranslationIsComparedWithinRepetitions(t *testing.T) {
	find := func(r *Run, name, rival string) Floor {
		for _, f := range slices.Concat(r.Floors(1280, Subject), r.memoryFloors()) {
			if strings.HasPrefix(f.Name, name) && f.Rival == rival {
				return f
			}
		}
		t.Fatalf("no promise %q about %q", name, rival)
		return Floor{}
	}
	// The second repetition cost twice as much, everywhere.
	r := exampleRun()
	if f := find(r, "CPU per GB through NAT64 beside plain", "firelane, plain"); f.Met || math.Abs(f.Got-1.25) > 1e-9 {
		t.Errorf("got %+v, want 1.25 and not met", f)
	}
	if f := find(r, "CPU per GB through NAT64, TCP", "firelane + tayga"); !f.Met || math.Abs(f.Got-0.25) > 1e-9 {
		t.Errorf("got %+v, want 0.25 and met", f)
	}
	if f := find(r, "filter and NAT,", "firelane, plain"); !f.Met || f.Got != 1.125 {
		t.Errorf("got %+v, want the worst in runs of 32, 1.125, and met", f)
	}
	if f := find(r, "filter and NAT64,", "firelane, plain"); f.Met || f.Got != 1.3 {
		t.Errorf("got %+v, want 1.3 and not met", f)
	}
	for i := range r.Samples {
		if r.Samples[i].Row.Way == Plain6 {
			r.Samples[i] = Sample{Row: r.Samples[i].Row, MTU: 1280, Gateway: Subject, Rep: r.Samples[i].Rep, Error: "lost"}
		}
	}
	if f := find(r, "CPU per GB through NAT64 beside plain", "firelane, plain"); f.Met || !math.IsNaN(f.Got) {
		t.Errorf("got %+v without a plain row, want no figure and not met", f)
	}
}

func TestPossibleIsWhatTheClientSendsOverWhatARivalDelivers(t *testing.T) {
	// The client sends 220,000/s; wireguard-go delivers 40,000/s and tailscale 11,764.
	for _, f := range exampleRun().Floors(1280, Subject) {
		want := 0.0
		if strings.HasPrefix(f.Name, "UDP delivered, saturating") {
			want = map[string]float64{"wireguard-go": 5.5, "tailscale": 220000.0 / 11764}[f.Rival]
		}
		if math.Abs(f.Possible-want) > 0.01 {
			t.Errorf("%s, %s: %v is possible, want %v", f.Name, f.Rival, f.Possible, want)
		}
	}
	// With less from the client, the report says that the promise cannot be met.
	r := exampleRun()
	for i := range r.Samples {
		switch s := &r.Samples[i]; {
		case s.Row.Kind == Ceiling:
			s.Packets = 200000
		case s.Row.Kind == UDP && s.Gateway == Subject:
			s.Packets = 160000
		}
	}
	var b strings.Builder
	if err := r.Markdown(&b, nil, ""); err != nil {
		t.Fatal(err)
	}
	if want := "| 2.00 | ≥ 4.00 | – | **not met**, at most 2.50 possible here |"; !strings.Contains(b.String(), want) {
		t.Errorf("the report lacks %q:\n%s", want, b.String())
	}
}

func TestBenchmarkLinesBecomeMetrics(t *testing.T) {
	got, err := ParseBenchmarks(strings.NewReader("goos: linux\npkg: example.org/p\ncpu: x\n" +
		"BenchmarkOpen/8-2   \t 1000\t  123.5 ns/op\t 8.25 B/ns\t 0 B/op\t 0 allocs/op\n" +
		"BenchmarkBroken words\nPASS\npkg: example.org/q\nBenchmarkSeal-2 5 7 ns/op\nok example.org/q 1s\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Benchmark{
		{"example.org/p", "Open/8-2", 1000, []Metric{{"ns/op", 123.5}, {"B/ns", 8.25}, {"B/op", 0}, {"allocs/op", 0}}},
		{"example.org/q", "Seal-2", 5, []Metric{{"ns/op", 7}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
