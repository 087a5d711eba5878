package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// bareTime is how long the disk is measured before and after the portal's turn.
const bareTime = 3 * time.Second

// barePages is what one bare write overwrites: what one authorization adds to the log.
const barePages = 8

// bare returns, sorted, how long the file system takes for nothing but a write as long as that of an
// authorization into a file that has its blocks, and fdatasync: the floor of any durable write.
func (l *load) bare(ctx context.Context, rate int, duration time.Duration) ([]time.Duration, error) {
	const page, slots = 4096, 1024
	f, err := os.Create(filepath.Join(l.dir, "bare"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	block := make([]byte, barePages*page)
	for range slots {
		if _, err := f.Write(block); err != nil {
			return nil, err
		}
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	var times []time.Duration
	for i := range int64(duration.Seconds() * float64(rate)) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		began := time.Now()
		_, err := f.WriteAt(block, i%slots*int64(len(block)))
		if err := errors.Join(err, unix.Fdatasync(int(f.Fd()))); err != nil {
			return nil, err
		}
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	return times, nil
}

// printBare prints what the disk takes by itself.
func (l *load) printBare(when string, times []time.Duration) {
	l.printf("  bare fdatasync     p50 %v, p99 %v, max %v: %d KiB into a file that has its blocks, %s\n",
		percentile(times, 50), percentile(times, 99), percentile(times, 100), barePages*4, when)
}

// histogram is one of the portal's: how many were at most a bound.
type histogram map[float64]uint64

// scrape returns the portal's histograms by name.
func (l *load) scrape() (map[string]histogram, error) {
	r, err := http.Get("http://" + l.metrics + "/metrics")
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	all := map[string]histogram{}
	lines := bufio.NewScanner(r.Body)
	for lines.Scan() {
		name, rest, ok := strings.Cut(lines.Text(), `_bucket{le="`)
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		bound, count, _ := strings.Cut(rest, `"} `)
		b, err1 := strconv.ParseFloat(bound, 64)
		n, err2 := strconv.ParseFloat(count, 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("metric %s: %w", name, err)
		}
		if all[name] == nil {
			all[name] = histogram{}
		}
		all[name][b] = uint64(n)
	}
	return all, lines.Err()
}

// since is h without what was in before.
func (h histogram) since(before histogram) histogram {
	d := histogram{}
	for bound, n := range h {
		d[bound] = n - before[bound]
	}
	return d
}

// percentile returns the bound that p percent do not exceed.
func (h histogram) percentile(p uint64) float64 {
	total := h[math.Inf(1)]
	bounds := make([]float64, 0, len(h))
	for b := range h {
		bounds = append(bounds, b)
	}
	slices.Sort(bounds)
	for _, b := range bounds {
		if h[b]*100 >= total*p {
			return b
		}
	}
	return 0
}

// microseconds is a percentile as a time.
func (h histogram) microseconds(p uint64) time.Duration {
	us := h.percentile(p)
	if math.IsInf(us, 1) {
		return time.Hour // above all bounds
	}
	return time.Duration(us) * time.Microsecond
}

// printShare prints what the durable write takes of an authorization, and returns its p99.
func (l *load) printShare(before, after map[string]histogram) time.Duration {
	const prefix = "firelane_portal_store_"
	of := func(name string) histogram { return after[prefix+name].since(before[prefix+name]) }
	write, commit, group := of("write_microseconds"), of("commit_microseconds"), of("group_writes")
	l.printf("  durable write      p50 %v, p99 %v (to a quarter): from handing it to the store until it is on the disk\n",
		write.microseconds(50), write.microseconds(99))
	l.printf("  transactions       %d for %d writes: p50 %v, p99 %v; writes in one: p50 %v, p99 %v, at most %v\n",
		commit[math.Inf(1)], write[math.Inf(1)], commit.microseconds(50), commit.microseconds(99),
		group.percentile(50), group.percentile(99), group.percentile(100))
	return write.microseconds(99)
}
