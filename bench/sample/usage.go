package sample

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what a process had used when it was read. Differences of two are what counts.
type Usage struct {
	// CPU is all processor time, exact; User and System are its two parts.
	CPU, User, System time.Duration
	// Switches are voluntary context switches of the threads alive now: how often it waited.
	Switches uint64
	// UDP are the error counters of the process's network namespace, IPv4 and IPv6 together.
	UDP UDPErrors
}

// UDPErrors are the kernel's counters of datagrams lost at sockets (RFC 4113 names them
// udpInErrors; the buffer counters are Linux's).
type UDPErrors struct {
	In, Rcvbuf, Sndbuf uint64
}

// Read returns the present usage of the process pid.
func Read(pid int) (Usage, error) {
	total, err := cpuClock(pid)
	if err != nil {
		return Usage{}, fmt.Errorf("read CPU clock of process %d: %w", pid, err)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Usage{}, fmt.Errorf("read usage: %w", err)
	}
	user, system, err := parseStat(stat)
	if err != nil {
		return Usage{}, fmt.Errorf("read usage of process %d: %w", pid, err)
	}
	u := Usage{CPU: total, User: user, System: system}
	if u.Switches, err = switches(pid); err != nil {
		return Usage{}, err
	}
	u.UDP, err = ReadUDP(pid)
	return u, err
}

// Since returns what was used between before and u. The parts are scaled to the exact total.
func (u Usage) Since(before Usage) Usage {
	d := Usage{
		CPU:      u.CPU - before.CPU,
		Switches: sub(u.Switches, before.Switches),
		UDP: UDPErrors{
			In:     sub(u.UDP.In, before.UDP.In),
			Rcvbuf: sub(u.UDP.Rcvbuf, before.UDP.Rcvbuf),
			Sndbuf: sub(u.UDP.Sndbuf, before.UDP.Sndbuf),
		},
	}
	user, system := u.User-before.User, u.System-before.System
	if ticks := user + system; ticks > 0 {
		d.User = time.Duration(float64(d.CPU) * float64(user) / float64(ticks))
	}
	d.System = d.CPU - d.User
	return d
}

// ResetPeak makes the peak resident memory of pid count from now (5 in clear_refs, proc(5)).
func ResetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// PeakRSS returns the largest resident memory of pid in bytes since its start or ResetPeak.
func PeakRSS(pid int) (uint64, error) {
	kb, err := statusField(fmt.Sprintf("/proc/%d/status", pid), "VmHWM:")
	return kb * 1024, err
}

// cpuClock reads the CPU-time clock of another process. The kernel builds its id from the
// inverted pid, shifted over three bits that say "process, not thread" (0) and "scheduler time" (2).
func cpuClock(pid int) (time.Duration, error) {
	const schedulerTime = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|schedulerTime), &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}

// parseStat returns utime and stime of a /proc/PID/stat line: fields 14 and 15, counted behind
// the last parenthesis because the name before it may hold anything.
func parseStat(b []byte) (user, system time.Duration, err error) {
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 13 {
		return 0, 0, fmt.Errorf("stat has %d fields behind the name", len(fields))
	}
	ut, err := strconv.ParseUint(string(fields[11]), 10, 63)
	if err != nil {
		return 0, 0, err
	}
	st, err := strconv.ParseUint(string(fields[12]), 10, 63)
	return time.Duration(ut) * tick, time.Duration(st) * tick, err
}

func switches(pid int) (uint64, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(tasks) == 0 {
		return 0, fmt.Errorf("process %d has no threads", pid)
	}
	var sum uint64
	for _, t := range tasks {
		n, err := statusField(t, "voluntary_ctxt_switches:")
		if os.IsNotExist(err) {
			continue // this thread has ended since
		}
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func statusField(path, name string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}

// sub is a-b, or 0 where a counter went back because a thread ended.
func sub(a, b uint64) uint64 {
	if a < b {
		return 0
	}
	return a - b
}

// tick is the unit of /proc/PID/stat: USER_HZ is 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond
