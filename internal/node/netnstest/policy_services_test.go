package netnstest

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// web is an HTTP server on a lab's server, at port 80 of all its addresses: it gives away one body,
// and takes what is put.
type web struct {
	l        *lab
	body     []byte
	received atomic.Int64 // bytes that were put
	put      chan []byte  // what was put, when it is complete
}

// webBody is how much a web server gives away.
const webBody = 5 << 20

func (l *lab) serveWeb() *web {
	l.t.Helper()
	w := &web{l: l, body: make([]byte, webBody), put: make(chan []byte, 1)}
	rand.NewChaCha8([32]byte{2}).Read(w.body)
	var at net.Listener
	l.server.try(l.server.within(func() (err error) {
		at, err = net.Listen("tcp", ":80")
		return err
	}))
	s := &http.Server{Handler: w}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(at) }()
	l.t.Cleanup(func() {
		s.Close()
		<-ended
	})
	return w
}

func (w *web) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		out.Write(w.body)
		return
	}
	var got bytes.Buffer
	for b := make([]byte, 32<<10); ; {
		n, err := r.Body.Read(b)
		got.Write(b[:n])
		w.received.Add(int64(n))
		if err == io.EOF {
			break
		} else if err != nil {
			return // half a body is none
		}
	}
	w.put <- got.Bytes()
}

// exchange puts and gets the body with curl, at an address by which the client knows the server.
func (w *web) exchange(address string) {
	w.l.t.Helper()
	dir := w.l.t.TempDir()
	w.l.must(curl(url(address, "/"), "-T", w.file(dir))...)
	w.took(address)
	got := filepath.Join(dir, "got")
	w.l.must(curl(url(address, "/"), "-o", got)...)
	if b, err := os.ReadFile(got); err != nil || !bytes.Equal(b, w.body) {
		w.l.t.Errorf("got from %s: %d bytes (%v), want the %d there are", address, len(b), err, len(w.body))
	}
}

// file returns the path of a file with the body.
func (w *web) file(dir string) string {
	w.l.t.Helper()
	path := filepath.Join(dir, "body")
	if err := os.WriteFile(path, w.body, 0o600); err != nil {
		w.l.t.Fatal(err)
	}
	return path
}

// took checks that the server has taken the body, whole.
func (w *web) took(address string) {
	w.l.t.Helper()
	select {
	case b := <-w.put:
		if !bytes.Equal(b, w.body) {
			w.l.t.Errorf("put at %s: the server took %d other bytes", address, len(b))
		}
	case <-time.After(tool):
		w.l.t.Errorf("put at %s: the server took nothing", address)
	}
}

// curl returns a command line that ends in time, and fails for what is no success.
func curl(url string, options ...string) []string {
	return append([]string{"curl", "-gsSf", "--noproxy", "*", "--max-time", "25", url}, options...)
}

// domainText is what the lab's DNS server says of every name: too much for one UDP message without
// EDNS, so that dig repeats the question over TCP.
var domainText = []string{strings.Repeat("a", 250), strings.Repeat("b", 250), strings.Repeat("c", 250)}

// serveDNS starts a DNS server on the lab's server, at port 53 of all its addresses over UDP and
// TCP.
func (l *lab) serveDNS() {
	l.t.Helper()
	u := l.server.listenUDP(":53")
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := u.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			if answer, ok := answerDNS(b[:n], 512); ok {
				u.WriteToUDPAddrPort(answer, from)
			}
		}
	}()
	var at net.Listener
	l.server.try(l.server.within(func() (err error) {
		at, err = net.Listen("tcp", ":53")
		return err
	}))
	l.t.Cleanup(func() { at.Close() })
	go func() {
		for {
			c, err := at.Accept()
			if err != nil {
				return
			}
			serveDNSOver(c)
		}
	}()
}

// serveDNSOver answers one question.
func serveDNSOver(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(tool))
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		return
	}
	if answer, ok := answerDNS(b, 1<<16-1); ok {
		binary.BigEndian.PutUint16(size[:], uint16(len(answer)))
		c.Write(append(size[:], answer...))
	}
}

// answerDNS answers a query with domainText, or as truncated if that exceeds most bytes.
func answerDNS(query []byte, most int) ([]byte, bool) {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil, false
	}
	m.Response, m.Additionals = true, nil
	m.Answers = []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 1},
		Body:   &dnsmessage.TXTResource{TXT: domainText},
	}}
	b, err := m.Pack()
	if err == nil && len(b) > most {
		m.Answers, m.Truncated = nil, true
		b, err = m.Pack()
	}
	return b, err == nil
}

// dig asks the lab's DNS server over UDP, and over TCP because the answer does not fit.
func (l *lab) dig(address string) {
	l.t.Helper()
	out := l.must("dig", "@"+address, "+time=5", "+tries=1", "+noedns", "text.example", "TXT")
	for _, text := range append(domainText, "Truncated, retrying in TCP mode") {
		if !strings.Contains(out, text) {
			l.t.Errorf("dig at %s does not say %q:\n%s", address, text, out)
		}
	}
}

// iperf runs iperf3 against one on the lab's server that serves it alone, at another port than the
// last, and checks that what it sends arrives.
func (l *lab) iperf(address string, options ...string) {
	l.t.Helper()
	l.iperfs++
	port := fmt.Sprint(5200 + l.iperfs)
	l.serve("iperf3", "-s", "-1", "-p", port)
	await(l.t, 5*time.Second, "listening iperf3", func() bool {
		out, err := l.try(l.server, "ss", "-Hltn", "sport", "=", port)
		return err == nil && out != ""
	})
	out := l.must(append([]string{"iperf3", "-J", "--connect-timeout", "5000", "-p", port, "-c", address}, options...)...)
	var report struct {
		Error string
		End   struct {
			Sum         struct{ Packets, Lost_percent float64 }
			SumReceived struct{ Bytes float64 } `json:"sum_received"`
		}
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.Error != "" {
		l.t.Errorf("iperf3 %v to %s: %v %s\n%s", options, address, err, report.Error, out)
		return
	}
	const mostLost = 20 // percent: sockets overflow on a busy machine
	switch end := report.End; {
	case end.Sum.Packets > 0 && end.Sum.Lost_percent > mostLost:
		l.t.Errorf("iperf3 %v to %s loses %v %% of %v packets", options, address, end.Sum.Lost_percent, end.Sum.Packets)
	case end.Sum.Packets == 0 && end.SumReceived.Bytes < iperfBytes/2:
		l.t.Errorf("iperf3 %v to %s: %v bytes arrive", options, address, end.SumReceived.Bytes)
	}
}

// iperfBytes is how much iperf3 transfers over TCP.
const iperfBytes = 20 << 20

// echo opens a socket on the lab's server, at a port of all its addresses, that returns every
// datagram and notes who wrote last.
func (l *lab) echo(port string) (c *net.UDPConn, last *atomic.Pointer[net.UDPAddr]) {
	l.t.Helper()
	c, last = l.server.listenUDP(":"+port), new(atomic.Pointer[net.UDPAddr])
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFromUDP(b)
			if err != nil {
				return
			}
			last.Store(from)
			c.WriteToUDP(b[:n], from)
		}
	}()
	return c, last
}

// dialUDP opens a connected socket of the client that hears of every ICMP error.
func (l *lab) dialUDP(to string) *net.UDPConn {
	l.t.Helper()
	c, err := l.dialFrom("udp", to, nil)
	l.client.try(err)
	l.t.Cleanup(func() { c.Close() })
	return c.(*net.UDPConn)
}

// dialFrom connects the client from a local address, or any if that is nil. Sockets share a local
// port towards different servers.
func (l *lab) dialFrom(network, to string, local net.Addr) (c net.Conn, err error) {
	ctx, cancel := context.WithTimeout(l.t.Context(), tool)
	defer cancel()
	d := net.Dialer{LocalAddr: local, Control: clientSocket}
	err = l.client.within(func() (err error) {
		c, err = d.DialContext(ctx, network, to)
		return err
	})
	return c, err
}

func clientSocket(network, _ string, c syscall.RawConn) (err error) {
	level, option := unix.IPPROTO_IP, unix.IP_RECVERR
	if network[3:] == "6" {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVERR
	}
	ctrl := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		if err == nil && network[:3] == "udp" {
			err = unix.SetsockoptInt(int(fd), level, option, 1)
		}
	})
	return errors.Join(ctrl, err)
}

// answered writes to a connected socket and returns the error that comes of it, or none if it is
// echoed.
func answered(c *net.UDPConn, limit time.Duration) error {
	const hello = "hello"
	if _, err := c.Write([]byte(hello)); err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(limit))
	b := make([]byte, 1500)
	n, err := c.Read(b)
	if err == nil && string(b[:n]) != hello {
		return fmt.Errorf("the answer is %q", b[:n])
	}
	return err
}
