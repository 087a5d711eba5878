package uapi

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

const (
	hexA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	hexB = "BBbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	zero = "0000000000000000000000000000000000000000000000000000000000000000"
)

var (
	keyA = [32]byte(bytes.Repeat([]byte{0xaa}, 32))
	keyB = [32]byte(bytes.Repeat([]byte{0xbb}, 32))
)

func ptr[T any](v T) *T { return &v }

func read(text string) (Request, error) {
	return ReadRequest(bufio.NewReader(strings.NewReader(text)))
}

func TestReadRequest(t *testing.T) {
	prefix := netip.MustParsePrefix
	for _, c := range []struct {
		name, text string
		want       Request
	}{
		{"get", "get=1\n\n", Request{Op: Get}},
		{"an empty set changes nothing", "set=1\n\n", Request{Op: Set}},
		{
			"every key of the device",
			"set=1\nprivate_key=" + hexA + "\nlisten_port=51820\nfwmark=4294967295\nreplace_peers=true\n\n",
			Request{Op: Set, Config: Config{
				PrivateKey: ptr(Key(keyA)), ListenPort: ptr(uint16(51820)), FirewallMark: ptr(uint32(1<<32 - 1)), ReplacePeers: true,
			}},
		},
		{
			"zeroes are settings too",
			"set=1\nprivate_key=" + zero + "\nlisten_port=0\nfwmark=0\n\n",
			Request{Op: Set, Config: Config{PrivateKey: new(Key), ListenPort: new(uint16), FirewallMark: new(uint32)}},
		},
		{
			"every key of a peer",
			"set=1\npublic_key=" + hexA + "\nremove=true\nupdate_only=true\npreshared_key=" + hexB +
				"\nendpoint=192.0.2.1:7\npersistent_keepalive_interval=65535\nreplace_allowed_ips=true\n" +
				"allowed_ip=10.0.0.1/8\nallowed_ip=-fd00::/64\nallowed_ip=0.0.0.0/0\nprotocol_version=1\n\n",
			Request{Op: Set, Config: Config{Peers: []PeerConfig{{
				PublicKey: keyA, Remove: true, UpdateOnly: true, PresharedKey: ptr(Key(keyB)),
				Endpoint:            netip.MustParseAddrPort("192.0.2.1:7"),
				PersistentKeepalive: ptr(uint16(65535)), ReplaceAllowedIPs: true,
				AllowedIPs: []AllowedIP{
					{Prefix: prefix("10.0.0.0/8")}, {Prefix: prefix("fd00::/64"), Remove: true}, {Prefix: prefix("0.0.0.0/0")},
				},
			}}}},
		},
		{
			"peers keep their order, and one may come twice",
			"set=1\npublic_key=" + hexA + "\nremove=true\npublic_key=" + hexB + "\npublic_key=" + hexA + "\nremove=true\n\n",
			Request{Op: Set, Config: Config{Peers: []PeerConfig{
				{PublicKey: keyA, Remove: true}, {PublicKey: keyB}, {PublicKey: keyA, Remove: true},
			}}},
		},
		{
			"an endpoint may have a zone, and loses its 4-in-6 mapping",
			"set=1\npublic_key=" + hexA + "\nendpoint=[fe80::1%eth0]:1\npublic_key=" + hexB + "\nendpoint=[::ffff:192.0.2.1]:2\n\n",
			Request{Op: Set, Config: Config{Peers: []PeerConfig{
				{PublicKey: keyA, Endpoint: netip.MustParseAddrPort("[fe80::1%eth0]:1")},
				{PublicKey: keyB, Endpoint: netip.MustParseAddrPort("192.0.2.1:2")},
			}}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := read(c.text)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestReadRequestRefuses(t *testing.T) {
	set, peer := "set=1\n", "set=1\npublic_key="+hexA+"\n"
	for _, c := range []struct{ name, text, want string }{
		{"an unknown operation", "put=1\n", `line 1: want get=1 or set=1, got "put=1"`},
		{"another version", "get=2\n", "line 1: want get=1 or set=1"},
		{"an empty line", "", "line 1: want get=1 or set=1"},
		{"something after get", "get=1\nlisten_port=1\n", "line 2: want an empty line"},
		{"a line without =", set + "listen_port\n", "line 2: want key=value"},
		{"an unknown key", set + "mtu=1\n", "line 2: mtu: unknown key for the device; want private_key, listen_port"},
		{"an unknown key of a peer", peer + "color=1\n", "line 3: color: unknown key for a peer; want remove, update_only"},
		{"a carriage return", set + "listen_port=1\r\n", `line 2: listen_port: want a decimal number up to 65535, got "1\r"`},
		{"control characters in a key", set + "\x1b[2J=1\n", `line 2: "\x1b[2J": unknown key`},
		{"a peer's key in front", set + "allowed_ip=10.0.0.0/8\n", "line 2: allowed_ip: unknown key for the device"},
		{"the device's key behind", peer + "listen_port=1\n", "line 3: listen_port: belongs in front of the first public_key"},
		{"a key twice", set + "fwmark=1\nfwmark=1\n", "line 3: fwmark appears twice"},
		{"a short key", set + "private_key=" + hexA[1:] + "\n", "line 2: private_key: want 64 hexadecimal digits, got 63 characters"},
		{"base64", set + "private_key=" + strings.Repeat("+", 64) + "\n", "line 2: private_key: want 64 hexadecimal digits"},
		{"a bad public key", set + "public_key=\n", "line 2: public_key: want 64 hexadecimal digits, got 0 characters"},
		{"a bad preshared key", peer + "preshared_key=" + hexA + "0\n", "line 3: preshared_key: want 64 hexadecimal digits, got 65"},
		{"a port out of range", set + "listen_port=65536\n", `line 2: listen_port: want a decimal number up to 65535, got "65536"`},
		{"a sign", set + "listen_port=+1\n", "line 2: listen_port: want a decimal number"},
		{"a mark in hexadecimal", set + "fwmark=0x1\n", `line 2: fwmark: want a decimal number up to 4294967295, got "0x1"`},
		{"a flag that is not true", set + "replace_peers=false\n", `line 2: replace_peers: want true, got "false"`},
		{"remove that is not true", peer + "remove=1\n", "line 3: remove: want true"},
		{"update_only that is not true", peer + "update_only=\n", "line 3: update_only: want true"},
		{"replace_allowed_ips that is not true", peer + "replace_allowed_ips=TRUE\n", "line 3: replace_allowed_ips: want true"},
		{"an endpoint by name", peer + "endpoint=example.com:1\n", `line 3: endpoint: want IPV4:PORT or [IPV6]:PORT, got "example.com:1"`},
		{"an endpoint without port", peer + "endpoint=192.0.2.1\n", "line 3: endpoint: want IPV4:PORT"},
		{"port 0", peer + "endpoint=192.0.2.1:0\n", "line 3: endpoint: want IPV4:PORT"},
		{"a long keepalive", peer + "persistent_keepalive_interval=65536\n", "line 3: persistent_keepalive_interval: want a decimal number"},
		{"an address without length", peer + "allowed_ip=10.0.0.1\n", `line 3: allowed_ip: want ADDRESS/LENGTH, got "10.0.0.1"`},
		{"two signs", peer + "allowed_ip=--10.0.0.1/8\n", "line 3: allowed_ip: want ADDRESS/LENGTH"},
		{"a zone in a prefix", peer + "allowed_ip=fe80::%eth0/64\n", "line 3: allowed_ip: want ADDRESS/LENGTH"},
		{"another protocol", peer + "protocol_version=2\n", `line 3: protocol_version: want 1, got "2"`},
		{"a counter", peer + "rx_bytes=1\n", "line 3: rx_bytes: unknown key for a peer"},
		{"a long line", set + strings.Repeat("x", maxLine+1) + "\nfwmark=1\n", "line 2: line is longer than 256 bytes"},
		{"a line longer than the buffer", set + strings.Repeat("x", 10000) + "\n", "line 2: line is longer than 256 bytes"},
		{"a line whose rest is empty", set + strings.Repeat("x", 4096) + "\nfwmark=1\n", "line 2: line is longer than 256 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := bufio.NewReader(strings.NewReader(c.text + "\nget=1\n\n"))
			_, err := ReadRequest(r)
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || !strings.HasPrefix(err.Error(), c.want) {
				t.Fatalf("got  %v\nwant %s", err, c.want)
			}
			if next, err := ReadRequest(r); err != nil || next.Op != Get {
				t.Errorf("the request behind gave %+v, %v", next, err)
			}
		})
	}
}

func TestReadRequestAtTheEnd(t *testing.T) {
	for text, want := range map[string]error{
		"":                          io.EOF,
		"get=1":                     io.ErrUnexpectedEOF,
		"get=1\n":                   io.ErrUnexpectedEOF,
		"set=1\nlisten_port=1\n":    io.ErrUnexpectedEOF,
		"set=1\nlisten_port=1\n\nx": nil,
	} {
		if _, err := read(text); err != want {
			t.Errorf("%q: got %v, want %v", text, err, want)
		}
	}
}

func TestBoundsOfARequest(t *testing.T) {
	for name, c := range map[string]struct {
		line string
		n    int
	}{
		"peers":       {"public_key=" + hexA + "\n", maxPeers},
		"allowed IPs": {"allowed_ip=::/0\n", maxAllowedIPs},
	} {
		head := "set=1\npublic_key=" + hexB + "\n"
		n := c.n
		if name == "peers" {
			n--
		}
		text := head + strings.Repeat(c.line, n)
		if _, err := read(text + "\n"); err != nil {
			t.Errorf("%s at the bound: %v", name, err)
		}
		if _, err := read(text + c.line + "\n"); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("more than %d", c.n)) {
			t.Errorf("%s above the bound: got %v", name, err)
		}
	}
}

func TestSecretsStayHidden(t *testing.T) {
	req, err := read("set=1\nprivate_key=" + hexA + "\npublic_key=" + hexB + "\npreshared_key=" + hexA + "\n\n")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d", "%q"} {
		fmt.Fprintf(&out, verb+"\n", *req.Config.PrivateKey)
		fmt.Fprintf(&out, verb+"\n", State{PrivateKey: keyA})
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "key", *req.Config.PrivateKey, "state", State{PrivateKey: keyA})
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "key", *req.Config.PrivateKey, "state", State{PrivateKey: keyA})
	for _, leak := range []string{"aaaa", "AAAA", "170", "0xaa"} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q shows in %s", leak, out.String())
		}
	}
	for _, bad := range []string{"private_key=" + hexA + "a\n", "private_key=" + hexA[1:] + "x\n"} {
		if _, err := read("set=1\n" + bad + "\n"); err == nil || strings.Contains(err.Error(), "aaa") {
			t.Errorf("the error quotes the key: %v", err)
		}
	}
}
