package sample

import (
	"os"
	"testing"
	"time"
)

func TestStatIsReadBehindAHostileName(t *testing.T) {
	user, system, err := parseStat([]byte("12 (a) b (c 1 2) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0"))
	if err != nil || user != 1500*time.Millisecond || system != 250*time.Millisecond {
		t.Errorf("user %v, system %v, error %v; want 1.5s, 250ms, nil", user, system, err)
	}
	if _, _, err := parseStat([]byte("12 (short) S 1")); err == nil {
		t.Error("a short line was accepted")
	}
}

func TestUDPCountersOfBothFamiliesAdd(t *testing.T) {
	e, err := parseSNMP("Ip: Forwarding\nIp: 1\n" +
		"Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors\nUdp: 9 1 7 8 5 2\n" +
		"UdpLite: InErrors\nUdpLite: 99\n")
	if err != nil {
		t.Fatal(err)
	}
	e.add(parseSNMP6("Udp6InErrors \t10\nUdp6RcvbufErrors 20\nUdp6SndbufErrors 30\nUdpLite6InErrors 99\n"))
	if want := (UDPErrors{In: 17, Rcvbuf: 25, Sndbuf: 32}); e != want {
		t.Errorf("got %+v, want %+v", e, want)
	}
	if _, err := parseSNMP("Ip: 1\n"); err == nil {
		t.Error("a file without UDP lines was accepted")
	}
}

func TestPartsAreScaledToTheExactTotal(t *testing.T) {
	before := Usage{CPU: 1000, User: 10 * tick, System: 0, Switches: 7}
	after := Usage{CPU: 5000, User: 13 * tick, System: tick, Switches: 5}
	d := after.Since(before)
	if d.CPU != 4000 || d.User != 3000 || d.System != 1000 {
		t.Errorf("got %v = %v + %v, want 4000ns = 3000ns + 1000ns", d.CPU, d.User, d.System)
	}
	if d.Switches != 0 {
		t.Errorf("a counter that went back gives %d, want 0", d.Switches)
	}
}

func TestOwnUsageGrowsWithWork(t *testing.T) {
	pid := os.Getpid()
	before, err := Read(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := ResetPeak(pid); err != nil {
		t.Fatal(err)
	}
	now := before
	for deadline := time.Now().Add(10 * time.Second); now.CPU-before.CPU < 50*time.Millisecond; {
		if time.Now().After(deadline) {
			t.Fatalf("only %v of CPU after 10 s of work", now.CPU-before.CPU)
		}
		if now, err = Read(pid); err != nil {
			t.Fatal(err)
		}
	}
	d := now.Since(before)
	if d.User+d.System != d.CPU || d.User < 0 || d.System < 0 {
		t.Errorf("%v + %v is not %v", d.User, d.System, d.CPU)
	}
	if rss, err := PeakRSS(pid); err != nil || rss < 1<<20 {
		t.Errorf("peak memory %d, error %v", rss, err)
	}
}

func TestBusyLeavesIdleTimeOut(t *testing.T) {
	got, err := parseBusy("cpu  1 2 4 1000 2000 8 16 32 64 128\ncpu0 9 9 9\n")
	if want := 63 * tick; err != nil || got != want {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	for _, bad := range []string{"", "cpu 1 2 3", "cpu a b c d e f g h", "intr 1 2 3 4 5 6 7 8"} {
		if _, err := parseBusy(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestProcessorsAreNamed(t *testing.T) {
	for info, want := range map[string]string{
		"processor\t: 0\ncpu family\t: 6\nmodel\t\t: 207\nmodel name\t: Some CPU @ 2GHz\n\nprocessor\t: 1\nmodel name\t: Another\n": "Some CPU @ 2GHz (family 6, model 207)",
		"cpu family\t: 25\nmodel\t\t: 1\nmodel name\t: \n":                                                                          "(family 25, model 1)",
		"processor\t: 0\nBogoMIPS\t: 50.00\n":                                                                                       "",
	} {
		if got := cpuModel(info); got != want {
			t.Errorf("%q is called %q, want %q", info, got, want)
		}
	}
	if h := ThisHost(); h.CPU == "" || h.Cores < 1 || h.Kernel == "" || h.Kernel == "unknown" || h.Go == "" {
		t.Errorf("this host is %+v", h)
	}
}
