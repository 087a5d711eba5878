package load

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/protocol/wireguard"
)

// peering says who a generator or sink is that speaks WireGuard itself, and with whom.
type peering struct {
	key            string // base64, like gatewayKey
	gatewayKey     string
	local, gateway string // addresses and ports outside
	inner          string // our address inside
}

// readKey takes the private key from r, where it shows in no list of processes.
func (p *peering) readKey(r io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(r, maxKeyText))
	if err != nil {
		return fmt.Errorf("read private key: %w", err)
	}
	p.key = strings.TrimSpace(string(b))
	return nil
}

// session is a WireGuard session with the gateway that the generator has initiated. It lives for one
// run, which is shorter than a key: what the gateway sends beside data is ignored.
type session struct {
	conn    *net.UDPConn // connected with the gateway
	keys    *wireguard.Keypair
	scratch wireguard.Scratch
}

// dial makes the session. id, the connection id, must differ from run to run, so that messages
// of a former one are not mistaken for forgeries.
func (p peering) dial(id uint64) (*session, error) {
	local, err := netip.ParseAddrPort(p.local)
	if err != nil {
		return nil, err
	}
	gateway, err := netip.ParseAddrPort(p.gateway)
	if err != nil {
		return nil, err
	}
	private, err := wireguard.ParseKey(p.key)
	if err != nil {
		return nil, err
	}
	public, err := wireguard.ParseKey(p.gatewayKey)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	d := wireguard.NewDevice(private, wireguard.PlainPolicy(), rand.Reader, now)
	peer, err := d.AddPeer(public, wireguard.PresharedKey{}, wireguard.PeerConfig{ConnectionID: uint32(id%maxConnectionID) + 1}, now)
	if err != nil {
		return nil, err
	}
	conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(local), net.UDPAddrFromAddrPort(gateway))
	if err != nil {
		return nil, err
	}
	peer.Initiate(wireguard.WhyData, now)
	s := &session{conn: conn}
	if s.keys, err = shake(conn, d, gateway); err == nil {
		err = s.confirm()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("shake hands with %v: %w", gateway, err), conn.Close())
	}
	return s, nil
}

// shake drives the device until it has a session.
func shake(conn *net.UDPConn, d *wireguard.Device, gateway netip.AddrPort) (*wireguard.Keypair, error) {
	buf := make([]byte, maxPayload)
	for end := time.Now().Add(handshakeTime); time.Now().Before(end); {
		if keys, err := act(conn, d); keys != nil || err != nil {
			return keys, err
		}
		deadline := end
		if at, ok := d.NextTimeout(); ok && at.Before(end) {
			deadline = at
		}
		if err := conn.SetReadDeadline(deadline); err != nil {
			return nil, err
		}
		n, err := conn.Read(buf)
		switch now := time.Now(); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			d.HandleTimeout(now)
		case err != nil && !errors.Is(err, unix.ECONNREFUSED):
			return nil, err
		case err == nil:
			d.HandleMessage(buf[:n], gateway, now)
		}
	}
	return nil, fmt.Errorf("no session within %v", handshakeTime)
}

// act does what the device wants done and returns the session when there is one.
func act(conn *net.UDPConn, d *wireguard.Device) (*wireguard.Keypair, error) {
	var out wireguard.Output
	for d.Drain(&out); ; d.Drain(&out) {
		for _, g := range out.Datagrams {
			if _, err := conn.Write(g.Bytes); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
				return nil, err
			}
		}
		if len(out.NewSessions) > 0 {
			return out.NewSessions[0].Keypair, nil
		}
		if len(out.Jobs) == 0 {
			return nil, nil
		}
		for _, j := range out.Jobs {
			d.HandleJob(j.Run(), time.Now())
		}
	}
}

// confirm sends the empty message without which the gateway must not use the session, and
// takes the handshake's deadline away.
func (s *session) confirm() error {
	first, ok := s.keys.Take(1)
	if !ok {
		return errKeyUsedUp
	}
	m := make([]byte, wireguard.DataMinSize)
	s.keys.Seal(&s.scratch, [][]byte{m}, first)
	if _, err := s.conn.Write(m); err != nil {
		return err
	}
	return s.conn.SetReadDeadline(time.Time{})
}

var errKeyUsedUp = errors.New("the session's key is used up")

const (
	// handshakeTime allows for two lost handshakes, which are repeated after 5 s.
	handshakeTime   = 12 * time.Second
	maxConnectionID = 1<<24 - 1
	// maxKeyText is more than 32 bytes in base64 and a line end.
	maxKeyText = 64
)
