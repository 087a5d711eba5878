package sample

import (
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Host is what a run was made on.
type Host struct {
	CPU    string
	Cores  int
	Kernel string
	Go     string
}

// ThisHost describes the machine this runs on, as far as it says.
func ThisHost() Host {
	h := Host{CPU: runtime.GOARCH, Cores: runtime.NumCPU(), Kernel: "unknown", Go: runtime.Version()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if model := cpuModel(string(b)); model != "" {
			h.CPU = model
		}
	}
	return h
}

// cpuModel reads the first processor's name in /proc/cpuinfo; virtual machines often hide it and
// leave family and model.
func cpuModel(info string) string {
	fields := map[string]string{}
	for line := range strings.Lines(info) {
		if k, v, ok := strings.Cut(line, ":"); ok {
			if k = strings.TrimSpace(k); fields[k] == "" {
				fields[k] = strings.TrimSpace(v)
			}
		}
	}
	name := fields["model name"]
	if fields["cpu family"] != "" {
		name += " (family " + fields["cpu family"] + ", model " + fields["model"] + ")"
	}
	return strings.TrimSpace(name)
}
