package main

import (
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firelane/firelane/bench/relay/traffic"
	"github.com/firelane/firelane/bench/sample"
)

// taking is a sample in which a relay took so much processor time for a million datagrams.
func taking(row Row, name string, cpu time.Duration) Sample {
	return Sample{
		Row: row, Relay: name, Usage: sample.Usage{CPU: cpu, System: cpu},
		Up:   traffic.Flow{Sent: 600_000, Delivered: 500_000, Seconds: 2},
		Down: traffic.Flow{Sent: 500_000, Delivered: 500_000, Seconds: 2},
	}
}

func TestFloorsCompareMediansOfCPUPerGB(t *testing.T) {
	trains := newRow(traffic.Plan{Up: true, Down: true, Lines: 1, Payload: 1000, Train: trainLen, Rate: pacedRate})
	singles := newRow(traffic.Plan{Up: true, Down: true, Lines: 1, Payload: 1000, Train: 1})
	r := Report{Relays: []Named{{Name: firelane}, {Name: "coturn"}}}
	for _, cpu := range []time.Duration{time.Second, 9 * time.Second, 2 * time.Second} {
		r.Samples = append(r.Samples, taking(trains, firelane, cpu), taking(trains, "coturn", 8*cpu/2))
		r.Samples = append(r.Samples, taking(singles, firelane, cpu), taking(singles, "coturn", 3*cpu/2))
	}
	failed := taking(trains, firelane, time.Hour)
	failed.Error = "it ended"
	r.Samples = append(r.Samples, failed)
	all := r.verdicts()
	if len(all) != 2 || all[0].ratio != 0.25 || !all[0].met() || math.Abs(all[1].ratio-2./3) > 1e-9 || all[1].met() {
		t.Errorf("got %+v", all)
	}
	s := over(r.of(trains, firelane), (*Sample).cpuPerGB)
	if s != (spread{2, 1, 9}) {
		t.Errorf("spread %+v", s)
	}
	text := r.markdown()
	for _, want := range []string{"1 of 2 met", "| 0.25 | met |", "| 0.67 | **not met** |", "2.00 [1.00 – 9.00]", "500000", "9.09", "Failed: trains"} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
}

// The yardstick is set beside each rival by the medians of both, is compared with no one itself, and
// has no say in whether a floor is met. Where it was not measured, there is none.
func TestTheYardstickStandsBesideEachRival(t *testing.T) {
	singles := newRow(traffic.Plan{Up: true, Down: true, Lines: 1, Payload: 1000, Train: 1})
	trains := newRow(traffic.Plan{Up: true, Down: true, Lines: 1, Payload: 1000, Train: trainLen, Rate: pacedRate})
	r := Report{Relays: []Named{{Name: firelane}, {Name: "coturn"}, {Name: "pion"}, {Name: bare, Bound: true}}}
	for _, cpu := range []time.Duration{time.Second, 5 * time.Second, 3 * time.Second} {
		r.Samples = append(r.Samples, taking(singles, firelane, cpu), taking(singles, "coturn", 2*cpu), taking(singles, "pion", 5*cpu),
			taking(singles, bare, 3*cpu/2), taking(trains, firelane, cpu), taking(trains, "coturn", 8*cpu), taking(trains, "pion", 3*cpu))
	}
	type figures struct{ ratio, bound float64 }
	want := map[string]figures{
		singles.Name + " coturn": {0.5, 0.75}, singles.Name + " pion": {0.2, 0.3},
		trains.Name + " coturn": {0.125, math.NaN()}, trains.Name + " pion": {1. / 3, math.NaN()},
	}
	same := func(a, b float64) bool { return math.Abs(a-b) < 1e-9 || math.IsNaN(a) && math.IsNaN(b) }
	all := r.verdicts()
	if len(all) != len(want) {
		t.Errorf("%d comparisons, want %d", len(all), len(want))
	}
	for _, v := range all {
		w, ok := want[v.row.Name+" "+v.rival]
		if !ok || !same(v.ratio, w.ratio) || !same(v.bound, w.bound) {
			t.Errorf("%s with %s: %v and %v, want %+v", v.row.Name, v.rival, v.ratio, v.bound, w)
		}
		if v.met() != (w.ratio <= v.row.floor()) {
			t.Errorf("%s with %s: met is %v", v.row.Name, v.rival, v.met())
		}
	}
	text := r.markdown()
	for _, line := range []string{
		"| row | floor | firelane / coturn | | bare / coturn | firelane / pion | | bare / pion |\n|---|---:|---:|---|---:|---:|---|---:|\n",
		"| " + singles.Name + " | 0.50 | 0.50 | met | 0.75 | 0.20 | met | 0.30 |\n",
		"| " + trains.Name + " | 0.25 | 0.12 | met | – | 0.33 | **not met** | – |\n",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("the report lacks %q:\n%s", line, text)
		}
	}
}

func TestARelayWithoutFiguresMeetsNoFloor(t *testing.T) {
	row := newRow(traffic.Plan{Up: true, Lines: 1, Payload: 1000, Train: 1})
	r := Report{Relays: []Named{{Name: firelane}, {Name: "pion"}}, Samples: []Sample{taking(row, firelane, time.Second)}}
	if all := r.verdicts(); len(all) != 1 || all[0].met() {
		t.Errorf("got %+v", all)
	}
}

func TestRowsHaveNamesOfTheirOwn(t *testing.T) {
	names, files := map[string]bool{}, map[string]bool{}
	for _, r := range allRows() {
		s := Sample{Row: r, Relay: firelane}
		if names[r.Name] || files[s.fileName()] {
			t.Errorf("%s is there twice", r.Name)
		}
		names[r.Name], files[s.fileName()] = true, true
		if filepath.Base(s.fileName()) != s.fileName() {
			t.Errorf("%s makes the file name %s", r.Name, s.fileName())
		}
	}
}

func TestOptionsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, args := range [][]string{{"-rows", "no such row"}, {"-rows", "("}, {"-relays", "other"}, {"-reps", "0"}, {"-length", "1ms"}, {"more"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
	if o, err := parse([]string{"-rows", "idle", "-relays", "pion"}); err != nil || len(o.rows) != 1 || len(o.relays) != 1 {
		t.Errorf("got %+v, %v", o, err)
	}
}
