package main

import (
	"runtime"
	"runtime/debug"
)

// version returns what the linker knows: the module's version or revision, and the toolchain.
func version() string {
	v := "(unknown version)"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		v = info.Main.Version
	}
	return v + " " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH
}
