package main

import (
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/bench/sample"
	"github.com/firelane/firelane/bench/topology"
)

// reading is a moment's account of the machine's CPU time and of the test's part in it.
type reading struct {
	at        time.Time
	busy, own time.Duration
}

// watch takes a reading. The test's own part is this process, its children that have ended, and
// both ends of the tunnel and a translator, which live on.
func watch(n *topology.Network) (reading, error) {
	r := reading{at: time.Now()}
	var err error
	if r.busy, err = sample.Busy(); err != nil {
		return r, err
	}
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			return r, fmt.Errorf("read own CPU time: %w", err)
		}
		r.own += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	for _, p := range []*topology.Process{n.Tunnel(topology.Gateway), n.Tunnel(topology.Client), n.Translator()} {
		u, err := read(p)
		if err != nil {
			return r, err
		}
		r.own += u.CPU
	}
	return r, nil
}

// elsewhere is the share of the machine since the reading that was neither idle nor the test's.
func (r reading) elsewhere(n *topology.Network) (float64, error) {
	now, err := watch(n)
	if err != nil {
		return 0, err
	}
	foreign := (now.busy - r.busy) - (now.own - r.own)
	return max(0, float64(foreign)/float64(now.at.Sub(r.at))/float64(runtime.NumCPU())), nil
}
