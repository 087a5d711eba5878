package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/bench/report"
	"github.com/firelane/firelane/internal/poll"
)

// wakeup measures what waking a thread costs: on the first core this process may use, and on its
// second one. With one core only there is no such figure.
func wakeup() (report.Wakeup, error) {
	var w report.Wakeup
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return w, fmt.Errorf("read CPU affinity: %w", err)
	}
	var cpus []int
	for cpu := 0; len(cpus) < allowed.Count(); cpu++ {
		if allowed.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	if len(cpus) < 2 {
		return w, nil
	}
	var err error
	if w.SameCPU, w.SameLatency, err = poll.MeasureWakeup(cpus[0], cpus[0], wakeupRounds); err == nil {
		w.CrossCPU, w.CrossLatency, err = poll.MeasureWakeup(cpus[0], cpus[1], wakeupRounds)
	}
	if err != nil {
		return w, fmt.Errorf("measure wake-ups: %w", err)
	}
	return w, nil
}

// wakeupRounds takes well under a second at 20 µs a round.
const wakeupRounds = 10000
