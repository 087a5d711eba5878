package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/firelane/firelane/internal/uapi"
)

// patience bounds every wait of these tests.
const patience = 10 * time.Second

// program returns a command that runs the program under test with a command line and additions
// to the environment.
func program(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	c := exec.CommandContext(ctx, self, args[1:]...)
	c.Args[0] = args[0]
	c.Env = append(append(os.Environ(), envProgram+"=1", promptEnd()), env...)
	return c
}

// promptEnd keeps a program built with the race detector from sleeping a second before it exits.
func promptEnd() string { return "GORACE=atexit_sleep_ms=0 " + os.Getenv("GORACE") }

// refused runs c, which must fail with code and one line on standard error, and returns the line.
func refused(t *testing.T, c *exec.Cmd, code int) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != code {
		t.Errorf("exit: got %v, want code %d", err, code)
	}
	line, rest, _ := strings.Cut(stderr.String(), "\n")
	if line == "" || rest != "" || stdout.Len() != 0 {
		t.Errorf("want one line on standard error, got %q, and %q on standard output", &stderr, &stdout)
	}
	return line
}

func TestBadCommandLines(t *testing.T) {
	words := func(s string) []string { return strings.Fields(s) }
	for _, c := range []struct {
		name string
		env  []string
		args []string
		want string
	}{
		{"no interface", nil, words("firelane wg"), "no interface name given; see \"firelane wg --help\""},
		{"two interfaces", nil, words("firelane wg a b"), "want one interface name, got 2 arguments"},
		{"no interface, under the other name", nil, words("/usr/bin/firelane-wg"), "no interface name given"},
		{"an unknown command", nil, words("firelane wq wg0"), `unknown command "wq"`},
		{"an unknown flag", nil, words("firelane wg --fast wg0"), "unknown flag: --fast"},
		{"a flag without value", nil, words("firelane wg wg0 --queues"), "flag needs an argument: --queues"},
		{"a number that is none", nil, words("firelane wg --queues x wg0"), `invalid argument "x" for "--queues"`},
		{"too many queues", nil, words("firelane wg --queues 257 wg0"), "--queues 257: want 0 to 256"},
		{"a long delay", nil, words("firelane wg --wakeup-delay 1s wg0"), "--wakeup-delay 1s: want 0 to 10ms"},
		{"a negative delay", nil, words("firelane wg --wakeup-delay=-1us wg0"), "--wakeup-delay -1µs: want 0 to 10ms"},
		{"metrics without a port", nil, words("firelane wg --metrics 127.0.0.1 wg0"), `--metrics "127.0.0.1": want an IP address and a port`},
		{"metrics at a name", nil, words("firelane wg --metrics localhost:9586 wg0"), `--metrics "localhost:9586": want an IP address and a port`},
		{"a name with a slash", nil, words("firelane wg ../wg0"), `bad interface name "../wg0"`},
		{"a name too long", nil, words("firelane wg abcdefghijklmnop"), "bad interface name"},
		{"a name with white space", nil, []string{"firelane", "wg", "a b"}, "bad interface name"},
		{"a name with a line end", nil, []string{"firelane", "wg", "a\nb"}, `bad interface name "a\nb"`},
		{"an empty name", nil, []string{"firelane", "wg", ""}, "bad interface name"},
		{"a template", nil, words("firelane wg wg%d"), "bad interface name"},
		{"a bad log level", []string{"LOG_LEVEL=loud"}, words("firelane wg wg0"), `LOG_LEVEL="loud": want verbose, debug`},
		{"a bad descriptor", []string{"WG_TUN_FD=three"}, words("firelane wg wg0"), `WG_TUN_FD="three": want the number`},
		{"a closed descriptor", []string{"WG_UAPI_FD=999"}, words("firelane wg wg0"), "WG_UAPI_FD=999: no such file descriptor is open"},
		{"queues of a given tunnel", []string{"WG_TUN_FD=0"}, words("firelane wg --queues 2 wg0"), "--queues 2 with WG_TUN_FD"},
	} {
		t.Run(c.name, func(t *testing.T) {
			line := refused(t, program(t, c.env, c.args...), exitUsage)
			if !strings.HasPrefix(line, "firelane: "+c.want) {
				t.Errorf("got  %s\nwant firelane: %s", line, c.want)
			}
		})
	}
}

// modes are the two ways to start; both must say the same.
var modes = []string{"--foreground", "--foreground=false"}

func TestTheMachineRefuses(t *testing.T) {
	dir := t.TempDir()
	taken, err := net.Listen("unix", uapi.SocketPath("taken0"))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	wrapped := func(c *exec.Cmd, wrapper ...string) *exec.Cmd {
		path, err := exec.LookPath(wrapper[0])
		if err != nil {
			t.Fatal(err)
		}
		c.Args = append(append(wrapper, c.Path), c.Args[1:]...)
		c.Path = path
		return c
	}
	for _, mode := range modes {
		wg := func(name string, env ...string) *exec.Cmd {
			return program(t, env, "firelane", "wg", mode, name)
		}
		withStdin := func(c *exec.Cmd) *exec.Cmd {
			null, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { null.Close() })
			c.ExtraFiles = []*os.File{null}
			return c
		}
		for _, c := range []struct {
			name string
			cmd  *exec.Cmd
			want string
		}{
			{"interface in use", wg("lo"), "interface lo is in use: choose another name"},
			{"no permission", wrapped(wg("wg0"), "setpriv", "--bounding-set=-net_admin"), "no permission to create interface wg0: run as root"},
			{
				"no TUN device",
				wrapped(wg("wg0"), "unshare", "-m", "sh", "-c", `mount -t tmpfs none /dev/net && exec "$0" "$@"`),
				`create interface wg0: open /dev/net/tun: no such file or directory (load the driver with "modprobe tun"`,
			},
			{"configuration socket in use", wg("taken0"), "configuration socket /var/run/wireguard/taken0.sock is in use: end the process"},
			{"metrics address of another host", program(t, nil, "firelane", "wg", mode, "--metrics", "192.0.2.1:9586", "wg0"), "listen for metrics: listen tcp 192.0.2.1:9586: bind: cannot assign"},
			{"descriptor of something else", withStdin(wg("wg0", "WG_TUN_FD=3")), "WG_TUN_FD is not a usable TUN file descriptor"},
			{"socket of something else", withStdin(wg("wg0", "WG_UAPI_FD=3")), "WG_UAPI_FD is not the listening socket"},
			{"name file that cannot be", wg("wg0", "WG_TUN_NAME_FILE="+dir+"/no/file"), "WG_TUN_NAME_FILE: open"},
		} {
			t.Run(c.name+" "+mode, func(t *testing.T) {
				line := refused(t, c.cmd, exitFailed)
				if !strings.HasPrefix(line, "firelane: "+c.want) {
					t.Errorf("got  %s\nwant firelane: %s", line, c.want)
				}
				for _, name := range []string{"wg0", "taken0"} {
					if _, err := net.InterfaceByName(name); err == nil {
						t.Errorf("interface %s was left behind", name)
					}
				}
			})
		}
	}
}

func TestVersionAndHelp(t *testing.T) {
	for _, args := range [][]string{{"firelane", "--version"}, {"firelane-wg", "--version"}, {"firelane", "wg", "--help"}, {"firelane"}} {
		out, err := program(t, nil, args...).Output()
		if err != nil || len(out) == 0 {
			t.Errorf("%v: %v, %q", args, err, out)
		}
	}
}
