package netnstest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestUpstreamsOwnTestGetsAtLeastAsFar runs wireguard-go's netns.sh, where the module cache has
// it, with either program. Some step may fail on a machine whatever the program; ours must not
// fail before theirs does.
func TestUpstreamsOwnTestGetsAtLeastAsFar(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.zx2c4.com/wireguard").Output()
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(strings.TrimSpace(string(out)), "tests", "netns.sh")
	theirs, _ := upstreamSteps(t, script, wireguardGo)
	t.Logf("wireguard-go: %d steps, the last %q", len(theirs), last(theirs))
	ours, said := upstreamSteps(t, script, firelaneWG)
	t.Logf("firelane wg: %d steps, the last %q", len(ours), last(ours))
	// Where wireguard-go stops varies; a script that cannot run at all must not pass for that.
	if len(ours) < leastSteps {
		t.Errorf("the script stops at step %d, before step %d; is a program missing?\n%s", len(ours), leastSteps, tail(said, 4000))
	}
	if len(ours) < len(theirs) {
		t.Errorf("firelane wg gets to step %d, wireguard-go to step %d; it said\n%s", len(ours), len(theirs), tail(said, 4000))
	}
	if strings.Contains(said, "level=ERROR") || strings.Contains(said, "DATA RACE") {
		t.Errorf("firelane wg complained:\n%s", tail(said, 4000))
	}
}

// leastSteps is well into the script: both ways of a tunnel over IPv4 and IPv6 are behind it.
const leastSteps = 100

func last(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[len(s)-1]
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// upstreamLimit bounds one run of the script.
const upstreamLimit = 3 * time.Minute

// upstreamSteps runs the script in namespaces that end with it and returns the steps it
// announced before it cleaned up, and all it said. Its transfers of 1 GB are cut to 32 MB.
func upstreamSteps(t *testing.T, script, program string) (steps []string, said string) {
	t.Helper()
	bin := t.TempDir()
	iperf, err := exec.LookPath("iperf3")
	if err != nil {
		t.Fatal(err)
	}
	shorter := "#!/bin/bash\nfor x; do [[ $x == 1G ]] && x=32M; a+=(\"$x\"); done\nexec " + iperf + " \"${a[@]}\"\n"
	if err := os.WriteFile(filepath.Join(bin, "iperf3"), []byte(shorter), 0o755); err != nil {
		t.Fatal(err)
	}
	// The script changes this for the whole machine, and puts it back unless it is killed.
	const shared = "/proc/sys/net/core/message_cost"
	cost, err := os.ReadFile(shared)
	if err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(shared, cost, 0o644)
	ctx, cancel := context.WithTimeout(t.Context(), upstreamLimit)
	defer cancel()
	c := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", script, program)
	c.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	log, err := os.Create(filepath.Join(bin, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c.Stdout, c.Stderr = log, log
	t.Logf("netns.sh with %s: %v", filepath.Base(program), c.Run())
	b, err := os.ReadFile(log.Name())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		_, step, announced := strings.Cut(strings.TrimSuffix(strings.TrimSpace(line), "\x1b[0m"), "[+] ")
		if announced && strings.Contains(step, "link del dev wg1") {
			break // the first step of its cleaning up
		}
		if announced {
			steps = append(steps, step)
		}
	}
	return steps, string(b)
}
