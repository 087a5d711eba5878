package main

import (
	"bytes"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

type host struct{ cpu, kernel string }

// machine describes the machine this runs on.
func machine() host {
	h := host{cpu: "unknown processor", kernel: "unknown"}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.kernel = string(bytes.TrimRight(u.Release[:], "\x00"))
	}
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return h
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok {
			if k = strings.TrimSpace(k); fields[k] == "" {
				fields[k] = strings.TrimSpace(v)
			}
		}
	}
	if name := fields["model name"]; name != "" {
		h.cpu = name + " (family " + fields["cpu family"] + ", model " + fields["model"] + ")"
	}
	return h
}
