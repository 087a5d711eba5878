package store

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// crashEnv, when set, makes the test binary the child of TestKilledProcessLosesNothing: it writes
// to the database of that name until it is killed.
const crashEnv = "FIRELANE_STORE_CRASH_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashEnv); path != "" {
		fmt.Fprintln(os.Stderr, writeForEver(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// A process that writes authorizations and devices as fast as it can is killed at a random moment,
// several times over the same database. Whatever it had confirmed by printing it is there
// afterwards, with the same ids and addresses.
func TestKilledProcessLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "portal.db")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var confirmed []string
	for round := range 4 {
		confirmed = append(confirmed, killAfter(t, path, 20+rng.IntN(200), time.Duration(rng.IntN(5000))*time.Microsecond)...)
		s := must(Open(t.Context(), path, Options{}))(t)
		for _, line := range confirmed {
			if err := isThere(s, line); err != nil {
				t.Errorf("round %d: confirmed and lost: %s: %v", round, line, err)
			}
		}
		var verdict string
		check(t, s.reads.QueryRow("PRAGMA integrity_check").Scan(&verdict))
		if verdict != "ok" {
			t.Errorf("round %d: %s", round, verdict)
		}
		check(t, s.Close())
	}
	t.Logf("%d confirmed writes survived", len(confirmed))
}

// killAfter starts a child and kills it a moment after it has confirmed n writes. It returns all
// that it has confirmed.
func killAfter(t *testing.T, path string, n int, moment time.Duration) (lines []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	child := exec.CommandContext(ctx, must(os.Executable())(t), "-test.run=^$")
	child.Env = append(os.Environ(), crashEnv+"="+path)
	child.Stderr = os.Stderr
	out := must(child.StdoutPipe())(t)
	check(t, child.Start())
	in := bufio.NewReader(out)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			break // a line without its end was not confirmed
		}
		if lines = append(lines, strings.TrimSpace(line)); len(lines) == n {
			time.AfterFunc(moment, func() { child.Process.Kill() })
		}
	}
	child.Wait() // it was killed
	if len(lines) < n {
		t.Fatalf("the child ended by itself after %d writes", len(lines))
	}
	return lines
}

// writeForEver writes from several goroutines, printing each write once it is confirmed.
func writeForEver(path string) error {
	ctx := context.Background()
	s, err := Open(ctx, path, Options{})
	if err != nil {
		return err
	}
	failed := make(chan error)
	var print sync.Mutex
	for range 8 {
		go func() {
			for {
				line, err := writeOne(ctx, s)
				if err != nil {
					failed <- err
					return
				}
				print.Lock()
				fmt.Println(line)
				print.Unlock()
			}
		}()
	}
	return <-failed
}

// writeOne makes a client, a gateway and an authorization between them.
func writeOne(ctx context.Context, s *Store) (string, error) {
	name, err := s.newID()
	if err != nil {
		return "", err
	}
	var pair [2]Device
	for i, kind := range []DeviceKind{Client, Gateway} {
		if pair[i], _, err = s.ConnectDevice(ctx, DeviceNews{DeviceKey: DeviceKey{"acme", kind, "o", name}}, noon); err != nil {
			return "", err
		}
	}
	a := authorization(pair[0], pair[1], name)
	if err := s.PutAuthorization(ctx, a); err != nil {
		return "", err
	}
	return strings.Join([]string{name, pair[0].ID, pair[0].IPv4.String(), pair[0].IPv6.String(),
		pair[1].ID, pair[1].IPv4.String(), pair[1].IPv6.String()}, " "), nil
}

// isThere looks for what a line of writeOne says.
func isThere(s *Store, line string) error {
	ctx := context.Background()
	f := strings.Fields(line)
	if len(f) != 7 {
		return fmt.Errorf("line of %d words", len(f))
	}
	for i, kind := range []DeviceKind{Client, Gateway} {
		d, err := s.Device(ctx, "acme", f[1+3*i])
		if err != nil {
			return err
		}
		if d.ExternalID != f[0] || d.Kind != kind || d.IPv4.String() != f[2+3*i] || d.IPv6.String() != f[3+3*i] {
			return fmt.Errorf("device is %+v", d)
		}
	}
	all, err := s.Authorizations(ctx, "acme", AuthorizationFilter{Client: f[1], Gateway: f[4]}, noon)
	if err == nil && (len(all) != 1 || all[0].ID != f[0]) {
		err = fmt.Errorf("authorizations are %+v", all)
	}
	return err
}
