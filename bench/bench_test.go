package main

import (
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firelane/firelane/bench/load"
	"github.com/firelane/firelane/bench/module"
	"github.com/firelane/firelane/bench/report"
	"github.com/firelane/firelane/bench/topology"
)

// TestMain lets the test binary be the traffic generator, which is started as "this program".
func TestMain(m *testing.M) {
	if code, mine := load.Main(os.Args[1:]); mine {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

func TestEveryKindOfRowIsMeasured(t *testing.T) {
	root, err := module.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	built := map[string]topology.Command{}
	for _, name := range []string{firelane, wireguardGo} {
		c, err := contenderNamed(name)
		if err != nil {
			t.Fatal(err)
		}
		if built[name], err = c.build(t.Context(), root, t.TempDir()); err != nil {
			t.Fatal(err)
		}
	}
	client := built[wireguardGo]
	p := &plan{
		gateways: []topology.Command{built[firelane]}, tcpClient: client, udpClient: client, singlesClient: client,
		rows:     matching(regexp.MustCompile(`^(tcp-1g-up|udp-31k-down|ping|udp-64-(up|down)-sealed|client-udp-64-up)$`)),
		stations: stationsFor(regexp.MustCompile(`^(plain6|nat64)-(tcp-up-1|udp-31k-up)$`), built),
		mtus:     []int{1280}, reps: 1, knobs: knobs{length: time.Second, burst: 64}, progress: t.Output(),
	}
	samples := p.run(t.Context())
	if len(samples) != 6+8 {
		t.Fatalf("%d samples, want 14", len(samples))
	}
	for _, s := range samples {
		if s.Error != "" {
			t.Errorf("%s: %s", s.Row.Name, s.Error)
			continue
		}
		if s.User+s.System <= 0 && s.Row.Kind != report.Ceiling || s.PeakRSS == 0 || s.Rep != 1 || s.MTU != 1280 {
			t.Errorf("%s: not sampled: %+v", s.Row.Name, s)
		}
		if beside := strings.HasSuffix(s.Gateway, tayga); beside != (s.Translator > 0) {
			t.Errorf("%s with %s: the translator took %v s", s.Row.Name, s.Gateway, s.Translator)
		}
		if s.Row.Kind != report.Ping && (s.Cost() <= 0 && s.Row.Kind != report.Ceiling || s.Rate() <= 0) {
			t.Errorf("%s: no traffic: %+v", s.Row.Name, s)
		}
		if s.Row.Kind == report.Ping && (s.PingP50 <= 0 || s.PingP99 < s.PingP50) {
			t.Errorf("ping: p50 %v, p99 %v", s.PingP50, s.PingP99)
		}
	}
}

func TestFailedGatewayFailsEveryRowAloud(t *testing.T) {
	broken := topology.Command{Name: firelane, Argv: []string{"false"}}
	every := regexp.MustCompile("")
	p := &plan{
		gateways: []topology.Command{broken}, tcpClient: broken, udpClient: broken,
		rows: allRows(), stations: stationsFor(every, map[string]topology.Command{firelane: broken, wireguardGo: broken}), mtus: []int{1280}, reps: 1, knobs: knobs{length: time.Second}, progress: t.Output(),
	}
	samples := p.run(t.Context())
	if want := len(allRows()) + len(legs(every)); len(samples) != want {
		t.Errorf("%d samples, want %d", len(samples), want)
	}
	if slices.ContainsFunc(samples, func(s report.Sample) bool { return s.Error == "" }) {
		t.Error("a row without gateway counts as measured")
	}
}

func TestWakeupIsMeasuredOnTwoCores(t *testing.T) {
	w, err := wakeup()
	if err != nil {
		t.Fatal(err)
	}
	if runtime.NumCPU() > 1 && (w.CrossCPU <= 0 || w.SameCPU <= 0) {
		t.Errorf("got %+v on %d cores", w, runtime.NumCPU())
	}
}

func TestRowNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range append(allRows(), legs(regexp.MustCompile(""))...) {
		// The same row by the same way is there for each gateway that it compares.
		if r.Way != report.NAT64 && seen[r.Name] {
			t.Errorf("two rows are called %s", r.Name)
		}
		seen[r.Name] = true
	}
}

func TestBadCommandLinesAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{"-rows", "("}, {"-gateways", "openvpn"}, {"-tcp-client", "x"}, {"-udp-client", "x"}, {"-mtu", "9000"}, {"-mtu", "a"},
		{"-reps", "0"}, {"-seconds", "0"}, {"left over"}, {"-record", "-reps", "1"}, {"-record", "-rows", "tcp"},
	} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
	if o, err := parse([]string{"-record"}); err != nil || len(o.gateways) != 3 || len(o.mtus) != 2 {
		t.Errorf("a full recorded run was refused: %v", err)
	}
}
