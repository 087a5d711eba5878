package poll

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// timerSlack is how late, in nanoseconds, the kernel may wake a pinned thread in order to merge
// timers. The default of 50 µs is as long as the sleeps of interrupt moderation themselves.
const timerSlack = 1000

// PinThread binds the calling goroutine to its thread for good, and the thread to a core if
// cpu ≥ 0, and makes its timers precise to a microsecond. The thread ends with the goroutine, so
// nothing has to be put back.
func PinThread(cpu int) error {
	runtime.LockOSThread()
	if cpu >= 0 {
		var set unix.CPUSet
		set.Set(cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("pin a thread to core %d: %w", cpu, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0); err != nil {
		return fmt.Errorf("set the timer slack: %w", err)
	}
	return nil
}
