package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/firelane/firelane/internal/channel"
	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// writeCertificate makes a self-signed certificate for 127.0.0.1 with this serial number.
func writeCertificate(t *testing.T, dir string, serial int64) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// TestDevicesConnectWithTLS serves with a certificate from files: a gateway must get in, and nobody
// may be offered HTTP/2, out of which no websocket comes.
func TestDevicesConnectWithTLS(t *testing.T) {
	certFile, keyFile := writeCertificate(t, t.TempDir(), 1)
	config, err := LoadTLS(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &testPortal{t: t, dir: t.TempDir(), url: "https://" + l.Addr().String()}
	p.file = filepath.Join(p.dir, "policy.yaml")
	writePolicy(t, p.file, policy)
	u := &url.URL{Scheme: "https", Host: l.Addr().String()}
	if p.Server, err = Open(t.Context(), Options{Config: p.file, Data: filepath.Join(p.dir, "data"), URL: u}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() { end <- p.Serve(ctx, l, config) }()
	defer func() {
		cancel()
		if err := <-end; err != nil {
			t.Error(err)
		}
	}()
	roots := x509.NewCertPool()
	pemText, err := os.ReadFile(certFile)
	if err != nil || !roots.AppendCertsFromPEM(pemText) {
		t.Fatal(err)
	}
	c := deviceConfig(p.url, signal.RoleGateway, p.token(TokenWish{Site: "berlin"}), "gateway")
	c.TLS = &tls.Config{RootCAs: roots}
	gateway, err := channel.Dial(c)
	if err != nil {
		t.Fatal(err)
	}
	defer gateway.Close()
	next[signal.GatewayInit](t, gateway)
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("the portal chooses %q", got)
	}
}

// TestCertificatesAreRenewed replaces the files under a running portal, first with good ones and then
// with nonsense, which must change nothing.
func TestCertificatesAreRenewed(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := writeCertificate(t, dir, 1)
	c := &certificate{certFile: certFile, keyFile: keyFile, log: slog.New(slog.DiscardHandler)}
	serial := func() int64 {
		t.Helper()
		c.looked = time.Time{} // a minute later
		got, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return got.Leaf.SerialNumber.Int64()
	}
	if n := serial(); n != 1 {
		t.Errorf("serial number %d", n)
	}
	writeCertificate(t, dir, 2)
	if n := serial(); n != 2 {
		t.Errorf("renewed: serial number %d", n)
	}
	if err := os.WriteFile(certFile, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := serial(); n != 2 {
		t.Errorf("nonsense: serial number %d", n)
	}
	if _, err := LoadTLS(certFile, keyFile, c.log); err == nil {
		t.Error("nonsense is good at the start")
	}
}

// TestUsesOfTokensAreNoted connects a device and stops the portal, which must have written when the
// token was used.
func TestUsesOfTokensAreNoted(t *testing.T) {
	p := start(t, policy)
	id, token := p.tokenAndID(TokenWish{Site: "berlin"})
	next[signal.GatewayInit](t, p.device(signal.RoleGateway, token, "gateway"))
	account := p.accountOf("acme").ID
	p.stop()
	s, err := store.Open(t.Context(), DatabasePath(p.options.Data), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if k, err := s.Token(t.Context(), account, id); err != nil || time.Since(k.Used) > time.Minute {
		t.Errorf("used %v, %v", k.Used, err)
	}
}

func TestHealth(t *testing.T) {
	p := start(t, policy)
	for _, path := range []string{"/healthz", "/readyz"} {
		resp, err := http.Get(p.url + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	if all, alive := p.Metrics(); !alive || len(all) < 30 {
		t.Errorf("%d metrics, alive: %v", len(all), alive)
	}
	p.stop()
	if _, alive := p.Metrics(); alive {
		t.Error("alive after the end")
	}
}
