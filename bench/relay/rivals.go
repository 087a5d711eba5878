package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/firelane/firelane/bench/module"
	"github.com/firelane/firelane/bench/topology"
)

// contender is a relay that can be measured.
type contender struct {
	name string
	// pkg is the main package that runs it; none for an installed program.
	pkg string
	// argv is how the program is started; it may leave files in dir.
	argv func(program, dir string) ([]string, error)
	// crowd is added to argv in the row of idle allocations.
	crowd []string
	// bound: it is no rival but a yardstick, what sockets took of a program that does little else, in
	// the rows of single datagrams.
	bound bool
	// version asks what it is; dir is the module's root.
	version func(ctx context.Context, root string) (string, error)
}

// contenders in the order in which they alternate. All have the same port, user and addresses.
var contenders = []contender{
	{name: firelane, pkg: "./cmd/firelane", argv: firelaneArgv, crowd: crowdFlags, version: func(context.Context, string) (string, error) {
		return "this work tree; `firelane relay` with --public-ip4-addr, --listen-port and --users-file, all else as by default. " +
			"In the row of idle allocations, which all belong to one address, also " + strings.Join(crowdFlags, " ") +
			": by default 2,048 allocations and 512 refusals a second are what one address gets", nil
	}},
	{name: "coturn", argv: coturnArgv, version: func(ctx context.Context, _ string) (string, error) {
		out, err := exec.CommandContext(ctx, turnserver, "--version").Output()
		first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return "turnserver " + first + "; a relay thread for each core, UDP only, no log, no statistics", err
	}},
	{name: "pion", pkg: "./bench/relay/pion", argv: pionArgv, version: func(ctx context.Context, root string) (string, error) {
		out, err := module.Go(ctx, root, "list", "-m", "-f", "{{.Path}} {{.Version}}", "github.com/pion/turn/v4")
		return strings.TrimSpace(string(out)) + "; a listening socket for each core (SO_REUSEPORT)", err
	}},
	{name: bare, pkg: "./bench/relay/bare", argv: bareArgv, bound: true, version: func(context.Context, string) (string, error) {
		return "no relay but a yardstick, what one on sockets does with datagrams that come singly: receive each on one socket and send it " +
			"from another, up to 64 in a call where they share a socket. No checks, no limits, a pause of 1 ms while datagrams come", nil
	}},
}

// measures reports whether the contender takes part in a row.
func (c *contender) measures(r Row) bool { return !c.bound || r.Crowd == 0 && r.Plan.Train == 1 }

// firelaneArgv starts the relay as an operator without a portal does.
func firelaneArgv(program, dir string) ([]string, error) {
	users := filepath.Join(dir, "relay-users")
	if err := os.WriteFile(users, []byte(user+":"+password+"\n"), 0o600); err != nil {
		return nil, err
	}
	return []string{program, "relay", "--public-ip4-addr", relayed.String(), "--listen-port", strconv.Itoa(relayPort), "--users-file", users}, nil
}

// crowdFlags lift the bounds of firelane that a crowd behind one address meets.
var crowdFlags = []string{"--max-allocations-per-source=0", "--max-refusals-per-second=0"}

func bareArgv(program, _ string) ([]string, error) {
	return []string{program, "-public", relayed.String(), "-port", strconv.Itoa(relayPort)}, nil
}

func pionArgv(program, _ string) ([]string, error) {
	return []string{program, "-public", relayed.String(), "-port", strconv.Itoa(relayPort), "-user", user, "-password", password}, nil
}

// coturnArgv gives coturn as many relay threads as there are cores, which is its own choice too, and
// spares it what costs time without carrying anything: TCP and TLS listeners, log and console.
func coturnArgv(program, dir string) ([]string, error) {
	return []string{
		program, "-n", "-L", topology.GatewayOuter.V4.Addr().String(), "-E", relayed.String(), "-p", strconv.Itoa(relayPort),
		"-m", strconv.Itoa(runtime.NumCPU()), "-a", "-u", user + ":" + password, "-r", "bench",
		"--no-tcp", "--no-tls", "--no-dtls", "--no-tcp-relay", "--no-cli", "--no-stdout-log", "--log-file", os.DevNull, "--simple-log",
		"--userdb", filepath.Join(dir, "turndb"), "--pidfile", filepath.Join(dir, "turnserver.pid"),
	}, nil
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
		if _, err := module.Go(ctx, root, "build", "-o", program, c.pkg); err != nil {
			return b, err
		}
	} else if program, err = exec.LookPath(program); err != nil {
		return b, fmt.Errorf("%w: install with `apt-get install coturn`", err)
	}
	if b.argv, err = c.argv(program, dir); err != nil {
		return b, err
	}
	b.what, err = c.version(ctx, root)
	return b, err
}

// relayed is the address of relayed ports, on the peers' side of the relay.
var relayed = topology.GatewayLAN.V4.Addr()

const (
	firelane   = "firelane"
	bare       = "bare"
	turnserver = "turnserver"
	relayPort  = 3478
	user       = "bench"
	password   = "bench-password"
)
