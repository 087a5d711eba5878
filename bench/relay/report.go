package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/firelane/firelane/bench/relay/traffic"
	"github.com/firelane/firelane/bench/sample"
)

// Sample is one measurement.
type Sample struct {
	Row      Row
	Relay    string
	Up, Down traffic.Flow
	Usage    sample.Usage
	// Peak is the peak resident memory in bytes.
	Peak uint64
	// PerAllocation is the resident memory in bytes of an idle allocation, in the row about it.
	PerAllocation float64
	// Error says why there are no figures.
	Error string
}

// fileName names the sample in files.
func (s *Sample) fileName() string {
	name := s.Row.Name + " " + s.Relay
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ReplaceAll(name, ", ", "-"))
}

func (s *Sample) delivered() uint64 { return s.Up.Delivered + s.Down.Delivered }

// gigabytes of payload that arrived.
func (s *Sample) gigabytes() float64 {
	return float64(s.delivered()) * float64(s.Row.Plan.Payload) / 1e9
}

func (s *Sample) cpuPerGB() float64    { return s.Usage.CPU.Seconds() / s.gigabytes() }
func (s *Sample) userPerGB() float64   { return s.Usage.User.Seconds() / s.gigabytes() }
func (s *Sample) systemPerGB() float64 { return s.Usage.System.Seconds() / s.gigabytes() }
func (s *Sample) cpuPerPacket() float64 {
	return s.Usage.CPU.Seconds() * 1e6 / float64(s.delivered())
}

// perSecond is how many datagrams arrived in a second, of both directions together.
func (s *Sample) perSecond() float64 {
	return float64(s.delivered()) / max(s.Up.Seconds, s.Down.Seconds)
}

func (s *Sample) lost() float64 {
	both := traffic.Flow{Sent: s.Up.Sent + s.Down.Sent, Delivered: s.delivered()}
	return 100 * both.Lost()
}

func (s *Sample) late() float64    { return float64(s.Up.Late + s.Down.Late) }
func (s *Sample) peakMiB() float64 { return float64(s.Peak) / (1 << 20) }

// Report is a run: everything that its Markdown is made of.
type Report struct {
	Date                 time.Time
	CPU, Kernel, Version string
	Cores                int
	Length               time.Duration
	Relays               []Named
	Samples              []Sample
}

// Named says what a relay is; Bound of one that is none.
type Named struct {
	Name, What string
	Bound      bool
}

// rival reports whether firelane is compared with it.
func (n Named) rival() bool { return n.Name != firelane && !n.Bound }

// loadReport reads a report; fs.ErrNotExist is an empty one.
func loadReport(path string) (r Report, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(b, &r)
}

// rows lists the rows in the order in which they were measured first.
func (r *Report) rows() (rows []Row) {
	for i := range r.Samples {
		if s := &r.Samples[i]; !slices.ContainsFunc(rows, func(o Row) bool { return o.Name == s.Row.Name }) {
			rows = append(rows, s.Row)
		}
	}
	return rows
}

// of lists the successful samples of a row and a relay.
func (r *Report) of(row Row, relay string) (all []*Sample) {
	for i := range r.Samples {
		if s := &r.Samples[i]; s.Row.Name == row.Name && s.Relay == relay && s.Error == "" {
			all = append(all, s)
		}
	}
	return all
}

// repetitions is how many measurements the figures of a row stand for, at least.
func (r *Report) repetitions() int {
	least := len(r.Samples)
	for _, row := range r.rows() {
		for _, n := range r.Relays {
			if !n.Bound {
				least = min(least, len(r.of(row, n.Name)))
			}
		}
	}
	return least
}

// spread is a median with the least and the greatest value.
type spread struct {
	median, min, max float64
}

// over returns the spread of a figure; NaN without samples.
func over(all []*Sample, figure func(*Sample) float64) spread {
	if len(all) == 0 {
		return spread{math.NaN(), math.NaN(), math.NaN()}
	}
	var v []float64
	for _, s := range all {
		v = append(v, figure(s))
	}
	slices.Sort(v)
	m := len(v) / 2
	median := v[m]
	if len(v)%2 == 0 {
		median = (v[m-1] + v[m]) / 2
	}
	return spread{median, v[0], v[len(v)-1]}
}

// verdict compares firelane's CPU per GB in a row with a rival's.
type verdict struct {
	row   Row
	rival string
	ratio float64 // of the medians; NaN where one has none
	// bound is the ratio that sockets by themselves come to; NaN where that is not measured.
	bound float64
}

func (v verdict) met() bool { return v.ratio <= v.row.floor() }

// verdicts lists all comparisons that have a floor.
func (r *Report) verdicts() (all []verdict) {
	for _, row := range r.rows() {
		if row.floor() == 0 {
			continue
		}
		cost := func(relay string) float64 { return over(r.of(row, relay), (*Sample).cpuPerGB).median }
		for _, n := range r.Relays {
			if n.rival() {
				theirs := cost(n.Name)
				all = append(all, verdict{row: row, rival: n.Name, ratio: cost(firelane) / theirs, bound: cost(bare) / theirs})
			}
		}
	}
	return all
}

// failures are the samples without figures.
func (r *Report) failures() (failed []Sample) {
	for _, s := range r.Samples {
		if s.Error != "" {
			failed = append(failed, s)
		}
	}
	return failed
}
