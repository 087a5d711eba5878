package netnstest

import (
	"bytes"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestANewPolicyHoldsForARunningTransfer takes the right to a port away from an upload in full swing,
// and gives it back.
func TestANewPolicyHoldsForARunningTransfer(t *testing.T) {
	permits, denies := named(server4, server6, everything), named(server4, server6, []filter{{"tcp", 81, 443}, {Protocol: "icmp"}})
	for _, to := range []string{proxyA6, proxyB6} {
		t.Run(to, func(t *testing.T) {
			l := newLab(t, labMTU, permits)
			w := l.serveWeb()
			body := w.file(t.TempDir())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				l.must(curl(url(to, "/"), "-T", body, "--limit-rate", "5M")...)
			}()
			await(t, tool, "begin of the upload", func() bool { return w.received.Load() > webBody/10 })
			s := l.client.sniff(l.client.name)
			l.reload(denies)
			first := s.resent(to)
			if first.kind != 1 || first.code != 1 {
				t.Errorf("the transfer is refused with %v, want it prohibited", first)
			}
			before := w.received.Load()
			s.resent(to)
			if after := w.received.Load(); after != before || after == webBody {
				t.Errorf("%d bytes arrived while it was denied, %d later", before, after)
			}
			if got := l.client.ping(to, 3, 5*time.Millisecond); got != 3 {
				t.Errorf("%d of 3 pings, still permitted, are answered", got)
			}
			l.reload(permits)
			<-ended
			w.took(to)
		})
	}
}

// resent returns an ICMP error about a packet that TCP has sent again: errors about packets that
// were under way are behind it, for none is as late.
func (s *sniffer) resent(to string) icmpError {
	s.h.t.Helper()
	const underWay = 100 * time.Millisecond
	for {
		asked := time.Now()
		if e := s.next(addr(to)); time.Since(asked) > underWay {
			return e
		}
	}
}

// TestABrokenPolicyFileChangesNothing writes what is no policy.
func TestABrokenPolicyFileChangesNothing(t *testing.T) {
	l := newLab(t, labMTU, named(server6, server4, []filter{{"udp", 7, 7}}))
	l.echo("7")
	for i, broken := range []string{"", "{", `{"clients": [{"public_key": "x"}]}`} {
		l.client.try(os.WriteFile(l.path, []byte(broken), 0o600))
		l.client.try(l.gateway.cmd.Process.Signal(syscall.SIGHUP))
		await(t, 5*time.Second, "complaint", func() bool { return bytes.Count(l.log(), []byte("level=ERROR")) == i+1 })
		if err := answered(l.dialUDP(net.JoinHostPort(proxyA4, "7")), tool); err != nil {
			t.Errorf("after %q, what was permitted: %v", broken, err)
		}
		l.denied(proxyA4, "8", prohibited)
	}
	for line := range strings.Lines(string(l.log())) {
		if strings.Contains(line, "level=ERROR") && (!strings.Contains(line, "policies not loaded") || !strings.Contains(line, l.path)) {
			t.Errorf("it complains of something else, or not of the file: %s", line)
		}
	}
	l.reload(named(server6, server4, []filter{{"udp", 8, 8}}))
	l.denied(proxyA4, "7", prohibited)
	l.gateway.kill() // stop would find the errors
}

// TestAccessEndsWhenItExpires gives access that ends soon.
func TestAccessEndsWhenItExpires(t *testing.T) {
	p := named(server6, server4, everything)
	p.Resources = append(p.Resources, cidr("six", "2001:db8:3::/64", everything))
	l := newLab(t, labMTU, p)
	l.echo("7")
	end := time.Now().Add(2 * time.Second).Truncate(time.Second)
	l.reload(p.expiring(end))
	for _, c := range []struct {
		to    string
		errno error
	}{{proxyA4, unix.EHOSTUNREACH}, {proxyB6, unix.EACCES}, {server6, unix.EACCES}} {
		s := l.dialUDP(net.JoinHostPort(c.to, "7"))
		var last time.Time
		await(t, 5*time.Second, "end of access to "+c.to, func() bool {
			err := answered(s, tool)
			if err == nil {
				last = time.Now()
			} else if !errors.Is(err, c.errno) {
				t.Errorf("access to %s ends with %v, want %v", c.to, err, c.errno)
			}
			return err != nil
		})
		const busy = 500 * time.Millisecond // a second after the end, and what a machine may lag behind
		if now := time.Now(); now.Before(end) || now.After(end.Add(time.Second+busy)) || last.After(now) {
			t.Errorf("access to %s ends at %v, want it at %v", c.to, now, end)
		}
	}
}

// TestALateAnswerDoesNotReachANameThatHasTheAddressNow gives a proxy address to another name while
// the server has something to say to the flow of the one before.
func TestALateAnswerDoesNotReachANameThatHasTheAddressNow(t *testing.T) {
	l := newLab(t, labMTU, named(server6, server6, everything))
	service, last := l.echo("7")
	c := l.dialUDP(net.JoinHostPort(proxyA4, "7"))
	if err := answered(c, tool); err != nil {
		t.Fatalf("before: %v", err)
	}
	before := last.Load()
	p := named(server4, server6, everything)
	p.Names[0].Domain = "c.example.com"
	l.reload(p)
	const late = 5
	for range late {
		if _, err := service.WriteToUDP([]byte("late"), before); err != nil {
			t.Fatal(err)
		}
		l.client.reaches(proxyB6, tool) // by when it has been dealt with
	}
	if err := answered(c, tool); err != nil { // a late one would be read first
		t.Errorf("the new name: %v", err)
	}
	if now := last.Load(); now.IP.To4() == nil || before.IP.To4() != nil {
		t.Errorf("the server was reached from %v before and %v now, want it to be another family", before, now)
	}
	service.WriteToUDP([]byte("late"), before)
	l.client.reaches(proxyB6, tool)
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	b := make([]byte, 100)
	if n, err := c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the client reads %q, %v", b[:n], err)
	}
	if c := l.gateway.stop(); c["DropNotGranted"] != late+1 { // the NAT has forgotten them, nothing else permits them
		t.Errorf("counted %v, want %d packets that nothing permits", c, late+1)
	}
}
