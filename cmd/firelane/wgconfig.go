package main

import (
	"fmt"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/internal/node"
	"github.com/firelane/firelane/internal/observe"
)

// The environment of `firelane wg`: wireguard-go's names and meanings, and one of our own.
const (
	envLogLevel   = "LOG_LEVEL"
	envForeground = "WG_PROCESS_FOREGROUND"
	envTunFD      = "WG_TUN_FD"
	envUAPIFD     = "WG_UAPI_FD"
	envNameFile   = "WG_TUN_NAME_FILE"
	// envReadyFD names the pipe on which the process in the background tells its parent
	// that it runs, or why not.
	envReadyFD = "FIRELANE_READY_FD"
)

// wgFlags are the flags of `firelane wg` as given.
type wgFlags struct {
	foreground                 bool
	noGSO, noGRO, noTSO, noUSO bool
	pin, noRaiseLimits         bool
	queues                     int
	wakeupDelay                time.Duration
	metrics                    string // address; empty for none
	policy                     string // file; empty for none
}

func (f *wgFlags) register(s *pflag.FlagSet) {
	s.BoolVarP(&f.foreground, "foreground", "f", false, "stay in the foreground")
	s.BoolVar(&f.noGSO, "no-gso", false, "send UDP datagrams one by one (UDP_SEGMENT off)")
	s.BoolVar(&f.noGRO, "no-gro", false, "receive UDP datagrams one by one (UDP_GRO off)")
	s.BoolVar(&f.noTSO, "no-tso", false, "no TCP superpackets on the tunnel")
	s.BoolVar(&f.noUSO, "no-uso", false, "no UDP superpackets on the tunnel")
	s.IntVar(&f.queues, "queues", 0, "tunnel queues, one worker each (0: one per core)")
	s.BoolVar(&f.pin, "pin", false, "bind each worker to a core of its own")
	s.DurationVar(&f.wakeupDelay, "wakeup-delay", defaultWakeupDelay, "the longest interval at which a busy worker looks for packets instead of being woken for them (0: never)")
	s.BoolVar(&f.noRaiseLimits, "no-raise-limits", false, "leave the system's limits on socket buffers as they are")
	s.StringVar(&f.metrics, "metrics", "", "answer HTTP requests for /metrics (Prometheus) and /healthz at this IP address and port")
	s.StringVar(&f.policy, "policy", "", "hold peers to the policies in this JSON `file`: resources, filters, names and NAT64; read again at SIGHUP")
	s.SortFlags = false
}

// defaultWakeupDelay cuts the cost of a packet at 31,000 single packets a second to less than half
// and adds at most as much to the latency of a packet, and only while packets come faster than one
// in 100 µs: docs/decisions/worker.md has the measurements. It binds below some 130,000 packets a
// second; above, fewer than 64 packets do not take that long to gather.
const defaultWakeupDelay = 500 * time.Microsecond

// maxWakeupDelay bounds --wakeup-delay: more than this is felt as latency by everything, and a
// typing error (50ms for 50us) is likelier than a wish.
const maxWakeupDelay = 10 * time.Millisecond

// maxQueues is how many queues a tunnel can have (MAX_TAP_QUEUES, drivers/net/tun.c).
const maxQueues = 256

// wgConfig is all of the command line and the environment, checked.
type wgConfig struct {
	wgFlags
	name     string
	level    slog.Level // silent: higher than anything logged
	verbose  bool       // a log level was asked for, and not silence
	tunFD    int        // -1 for none, as the next two
	uapiFD   int
	readyFD  int
	nameFile string // empty for none
}

// parseWG returns a configuration that can be used, or says what is wrong with f, name or the
// environment.
func parseWG(f wgFlags, name string, env func(string) (string, bool)) (wgConfig, error) {
	c := wgConfig{wgFlags: f, name: name}
	if err := checkName(name); err != nil {
		return c, err
	}
	if f.queues < 0 || f.queues > maxQueues {
		return c, fmt.Errorf("--queues %d: want 0 to %d", f.queues, maxQueues)
	}
	if f.wakeupDelay < 0 || f.wakeupDelay > maxWakeupDelay {
		return c, fmt.Errorf("--wakeup-delay %v: want 0 to %v", f.wakeupDelay, maxWakeupDelay)
	}
	if f.metrics != "" {
		if err := observe.CheckAddr(f.metrics); err != nil {
			return c, fmt.Errorf("--metrics %q: %w", f.metrics, err)
		}
	}
	if f.policy != "" {
		if err := node.CheckPolicyFile(f.policy); err != nil {
			return c, fmt.Errorf("--policy: %w", err)
		}
	}
	if v, _ := env(envForeground); v == "1" {
		c.foreground = true
	}
	c.nameFile, _ = env(envNameFile)
	return c, c.parseEnv(env)
}

func (c *wgConfig) parseEnv(env func(string) (string, bool)) (err error) {
	if c.tunFD, err = parseFD(env, envTunFD); err != nil {
		return err
	}
	if c.uapiFD, err = parseFD(env, envUAPIFD); err != nil {
		return err
	}
	if c.readyFD, err = parseFD(env, envReadyFD); err != nil {
		return err
	}
	switch {
	case c.tunFD >= 0 && c.queues > 1:
		return fmt.Errorf("--queues %d with %s: a tunnel handed over has one queue", c.queues, envTunFD)
	case c.tunFD >= 0:
		c.queues = 1
	case c.queues == 0:
		c.queues = min(runtime.NumCPU(), maxQueues)
	}
	return c.parseLevel(env)
}

// levelSilent is above every level that is logged.
const levelSilent = slog.LevelError + 1

func (c *wgConfig) parseLevel(env func(string) (string, bool)) error {
	v, _ := env(envLogLevel)
	switch v {
	case "verbose", "debug":
		c.level = slog.LevelDebug
	case "info":
		c.level = slog.LevelInfo
	case "warn":
		c.level = slog.LevelWarn
	case "", "error":
		c.level = slog.LevelError
	case "silent":
		c.level = levelSilent
	default:
		return fmt.Errorf("%s=%q: want verbose, debug, info, warn, error or silent", envLogLevel, v)
	}
	c.verbose = v != "" && v != "silent"
	return nil
}

// parseFD returns the descriptor that a variable names, or -1 when it is unset or empty.
func parseFD(env func(string) (string, bool), name string) (int, error) {
	v, _ := env(name)
	if v == "" {
		return -1, nil
	}
	fd, err := strconv.ParseUint(v, 10, 31)
	if err != nil {
		return -1, fmt.Errorf("%s=%q: want the number of an open file descriptor", name, v)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
		return -1, fmt.Errorf("%s=%d: no such file descriptor is open", name, fd)
	}
	return int(fd), nil
}

// maxNameLen is the longest name of an interface in bytes (IFNAMSIZ less the final zero).
const maxNameLen = 15

// checkName refuses what the kernel refuses as the name of an interface, and "%", which it
// would replace by a number.
func checkName(name string) error {
	bad := func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune("/:%", r) }
	if name == "" || len(name) > maxNameLen || name == "." || name == ".." || strings.ContainsFunc(name, bad) {
		return fmt.Errorf("bad interface name %q: want 1 to %d bytes without '/', ':', '%%' and white space", name, maxNameLen)
	}
	return nil
}
