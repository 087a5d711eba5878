package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/firelane/firelane/bench/topology"
)

// contender is a relay that can be measured.
type contender struct {
	name string
	// pkg is the main package that runs it; none for an installed program.
	pkg string
	// argv is how the program is started.
	argv func(program, dir string) []string
	// version asks what it is; dir is the module's root.
	version func(ctx context.Context, root string) (string, error)
}

// contenders in the order in which they alternate. All have the same port, user and addresses.
var contenders = []contender{
	{name: firelane, pkg: "./bench/relay/firelane", argv: ownArgv, version: func(context.Context, string) (string, error) {
		return "this work tree; a pinned worker for each core, GSO and GRO, wake-up delay of 500 µs at most", nil
	}},
	{name: "coturn", argv: coturnArgv, version: func(ctx context.Context, _ string) (string, error) {
		out, err := exec.CommandContext(ctx, turnserver, "--version").Output()
		first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return "turnserver " + first + "; a relay thread for each core, UDP only, no log, no statistics", err
	}},
	{name: "pion", pkg: "./bench/relay/pion", argv: ownArgv, version: func(ctx context.Context, root string) (string, error) {
		out, err := goTool(ctx, root, "list", "-m", "-f", "{{.Path}} {{.Version}}", "github.com/pion/turn/v4")
		return strings.TrimSpace(string(out)) + "; a listening socket for each core (SO_REUSEPORT)", err
	}},
}

func ownArgv(program, _ string) []string {
	return []string{program, "-public", relayed.String(), "-port", strconv.Itoa(relayPort), "-user", user, "-password", password}
}

// coturnArgv gives coturn as many relay threads as there are cores, which is its own choice too, and
// spares it what costs time without carrying anything: TCP and TLS listeners, log and console.
func coturnArgv(program, dir string) []string {
	return []string{
		program, "-n", "-L", topology.GatewayOuter.V4.Addr().String(), "-E", relayed.String(), "-p", strconv.Itoa(relayPort),
		"-m", strconv.Itoa(runtime.NumCPU()), "-a", "-u", user + ":" + password, "-r", "bench",
		"--no-tcp", "--no-tls", "--no-dtls", "--no-tcp-relay", "--no-cli", "--no-stdout-log", "--log-file", os.DevNull, "--simple-log",
		"--userdb", filepath.Join(dir, "turndb"), "--pidfile", filepath.Join(dir, "turnserver.pid"),
	}
}

// built is a contender's program and how to start it.
type built struct {
	contender
	argv []string
	what string // version and settings
}

// build compiles a contender into dir, or finds it installed.
func (c contender) build(ctx context.Context, root, dir string) (b built, err error) {
	b.contender = c
	program := turnserver
	if c.pkg != "" {
		program = filepath.Join(dir, "relay-"+c.name)
		if _, err := goTool(ctx, root, "build", "-o", program, c.pkg); err != nil {
			return b, err
		}
	} else if program, err = exec.LookPath(program); err != nil {
		return b, fmt.Errorf("%w: install with `apt-get install coturn`", err)
	}
	b.argv = c.argv(program, dir)
	b.what, err = c.version(ctx, root)
	return b, err
}

// goTool runs the go command in the module's root.
func goTool(ctx context.Context, root string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	var stderr bytes.Buffer
	cmd.Dir, cmd.Stderr = root, &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// relayed is the address of relayed ports, on the peers' side of the relay.
var relayed = topology.GatewayLAN.V4.Addr()

const (
	firelane   = "firelane"
	turnserver = "turnserver"
	relayPort  = 3478
	user       = "bench"
	password   = "bench-password"
)
