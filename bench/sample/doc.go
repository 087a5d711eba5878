// Package sample reads what a process and its network namespace have used, from outside:
// processor time, peak memory, context switches and the kernel's UDP error counters; and what
// machine that was on.
//
// Processor time has two sources on purpose. The total is the process's own CPU clock
// (clock_gettime on the clock id of its pid, see clock_getcpuclockid(3)): nanoseconds, and it
// includes threads that have ended. The division into user and system comes from
// /proc/PID/stat, which counts in ticks of 10 ms and is scaled by the kernel to the same total;
// it decides the shares only.
//
// Nothing here keeps state; all functions may be called from any goroutine.
package sample
