package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// certificateEvery is how often the files are looked at, on a handshake.
const certificateEvery = time.Minute

// certificate is a certificate on disk, which somebody renews now and then.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu     sync.Mutex
	looked time.Time
	seen   [2]stamp
	loaded *tls.Certificate
}

// LoadTLS returns a configuration with the certificate of two PEM files, which are read again when
// they have changed. Files that are not good then are logged, and the certificate stays.
func LoadTLS(certFile, keyFile string, log *slog.Logger) (*tls.Config, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	if err := c.load(time.Now()); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}, nil
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.looked) >= certificateEvery {
		if err := c.load(now); err != nil {
			c.log.Error("certificate is not renewed", "error", err)
		}
	}
	return c.loaded, nil
}

// load reads the files if they have changed; the lock is held, or nobody else knows c.
func (c *certificate) load(now time.Time) error {
	c.looked = now
	var seen [2]stamp
	for i, path := range []string{c.certFile, c.keyFile} {
		var err error
		if seen[i], err = look(path); err != nil {
			return fmt.Errorf("load certificate: %w", err)
		}
	}
	if seen == c.seen {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("load certificate: %w", err)
	}
	c.seen, c.loaded = seen, &pair
	return nil
}
