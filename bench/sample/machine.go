package sample

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Busy returns the processor time, of all cores together, that this machine has spent on anything
// but idling since its start, including what the hypervisor took from it. It is exact to 10 ms.
func Busy() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("read machine's CPU time: %w", err)
	}
	return parseBusy(string(b))
}

// parseBusy sums the first line of /proc/stat: cpu user nice system idle iowait irq softirq steal,
// without idle and iowait. What follows is counted in user and nice already.
func parseBusy(s string) (time.Duration, error) {
	line, _, _ := strings.Cut(s, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return 0, fmt.Errorf("read machine's CPU time: %q is not the line of all cores", line)
	}
	var ticks uint64
	for i, v := range f[1:9] {
		n, err := strconv.ParseUint(v, 10, 63)
		if err != nil {
			return 0, fmt.Errorf("read machine's CPU time: %w", err)
		}
		if i != 3 && i != 4 {
			ticks += n
		}
	}
	return time.Duration(ticks) * tick, nil
}
