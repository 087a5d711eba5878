package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// programs are what a run starts, and the Debian packages they come in.
var programs = []struct{ name, pkg string }{
	{"iperf3", "iperf3"},
	{"wg", "wireguard-tools"},
	{"ping", "iputils-ping"},
	{"nft", "nftables"},
	{tayga, tayga},
}

// prerequisites returns an error that says in one line everything that is missing and how to get it.
func prerequisites() error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root: run it with sudo")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return errors.New("there is no /dev/net/tun: load the module with `modprobe tun`, or give the container that device")
	}
	var names, pkgs []string
	for _, p := range programs {
		if _, err := exec.LookPath(p.name); err != nil {
			names, pkgs = append(names, p.name), append(pkgs, p.pkg)
		}
	}
	if len(names) > 0 {
		return fmt.Errorf("missing %s: install with `apt-get install %s`", strings.Join(names, ", "), strings.Join(pkgs, " "))
	}
	return nil
}

// packageVersion is the version of an installed Debian package; other systems do not tell.
func packageVersion(ctx context.Context, name string) string {
	out, err := exec.CommandContext(ctx, "dpkg-query", "--show", "--showformat", "${Version}", name).Output()
	if err != nil {
		return "of unknown version"
	}
	return string(bytes.TrimSpace(out)) + " (Debian)"
}
