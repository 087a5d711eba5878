package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/protocol/signal"
)

// revision returns the commit that the program was built from, or its version.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return info.Main.Version
}

// relayAgent returns the User-Agent of a relay.
func relayAgent() string {
	a := signal.Agent{OS: "Linux", OSVersion: "0", Component: "relay", Version: "0.0.0", Arch: machine()}
	if info, ok := debug.ReadBuildInfo(); ok && strings.HasPrefix(info.Main.Version, "v") {
		a.Version = info.Main.Version[1:]
	}
	text, _ := os.ReadFile("/etc/os-release")
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `"'`)
		switch {
		case value == "":
		case key == "NAME":
			a.OS, _, _ = strings.Cut(value, " ")
		case key == "VERSION_ID":
			a.OSVersion = value
		}
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		a.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	return a.String()
}

// machine names the processor as uname does.
func machine() string {
	if runtime.GOARCH == "amd64" {
		return "x86_64"
	}
	return runtime.GOARCH
}
