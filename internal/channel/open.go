package channel

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/coder/websocket"

	"github.com/firelane/firelane/protocol/signal"
)

// tcpTimeout is how long addresses are tried. The session bounds the attempt as a whole.
const tcpTimeout = 5 * time.Second

// tlsTimeout leaves the rest of an attempt's fifteen seconds.
const tlsTimeout = 10 * time.Second

// maxAddrs is how many addresses of the portal are tried at once. Names have a handful.
const maxAddrs = 16

// maxHeader bounds the header of the answer to an upgrade.
const maxHeader = 64 << 10

// opener opens websockets to one target.
type opener struct {
	target  signal.Target
	header  http.Header
	tls     *tls.Config
	resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	control func(network, address string, c syscall.RawConn) error
}

// refusedError is an answer to the upgrade that is not 101.
type refusedError struct{ refusal signal.Refusal }

func (e *refusedError) Error() string { return e.refusal.String() }

// open returns a websocket and the TCP connection below it, which may be closed to drop both.
// The end of ctx does so too, at any time.
func (o *opener) open(ctx context.Context, query string) (*websocket.Conn, net.Conn, error) {
	var raw net.Conn
	transport := &http.Transport{
		// The context that the transport hands in may outlive a cancelled request.
		DialContext: func(context.Context, string, string) (conn net.Conn, err error) {
			conn, err = o.dial(ctx)
			if err == nil {
				raw = conn
				context.AfterFunc(ctx, func() { _ = conn.Close() })
			}
			return conn, err
		},
		TLSClientConfig:        o.tls,
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1 only
		TLSHandshakeTimeout:    tlsTimeout,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
	}
	defer transport.CloseIdleConnections()
	catch := &catcher{base: transport}
	client := &http.Client{
		Transport:     catch,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	ws, _, err := websocket.Dial(ctx, o.target.URL(query), &websocket.DialOptions{
		HTTPClient: client, HTTPHeader: o.header, Host: o.target.HostHeader,
	})
	if err == nil {
		ws.SetReadLimit(int64(signal.FromPortal.Bytes))
		return ws, raw, nil
	}
	if catch.refusal != nil {
		return nil, nil, &refusedError{*catch.refusal}
	}
	var inURL *url.Error
	if errors.As(err, &inURL) {
		err = inURL.Err // the URL holds the device's identity
	}
	return nil, nil, fmt.Errorf("connect to portal: %w", err)
}

// dial tries all addresses of the portal at once.
func (o *opener) dial(ctx context.Context) (net.Conn, error) {
	addrs, err := o.addrs(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, tcpTimeout)
	defer cancel()
	dialer := net.Dialer{Control: o.control}
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result)
	for _, a := range addrs {
		go func() {
			conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(a, o.target.Port).String())
			select {
			case results <- result{conn, err}:
			case <-ctx.Done(): // another one was first
				if err == nil {
					_ = conn.Close()
				}
			}
		}()
	}
	var failed []error
	for range addrs {
		select {
		case r := <-results:
			if r.err == nil {
				return r.conn, nil
			}
			failed = append(failed, r.err)
		case <-ctx.Done():
			return nil, errors.Join(append(failed, ctx.Err())...)
		}
	}
	return nil, errors.Join(failed...)
}

func (o *opener) addrs(ctx context.Context) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(o.target.Host); err == nil {
		return []netip.Addr{a}, nil
	}
	addrs, err := o.resolve(ctx, o.target.Host)
	if err != nil {
		return nil, fmt.Errorf("look up portal: %w", err)
	}
	if len(addrs) == 0 {
		return nil, errors.New("look up portal: no address")
	}
	for i, a := range addrs {
		addrs[i] = a.Unmap()
	}
	return addrs[:min(len(addrs), maxAddrs)], nil
}

// systemResolve asks the system's resolver.
func systemResolve(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// catcher keeps what the portal says when it refuses, of which the websocket library keeps less.
type catcher struct {
	base    http.RoundTripper
	refusal *signal.Refusal
}

// RoundTrip implements http.RoundTripper.
func (c *catcher) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.base.RoundTrip(r)
	if err != nil || resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, err
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, signal.MaxProblem+1)) // a part is no problem document
	_ = resp.Body.Close()
	refusal := signal.ParseRefusal(resp.StatusCode, resp.Header.Get("Content-Type"), resp.Header.Get("Retry-After"), body)
	c.refusal = &refusal
	resp.Body = io.NopCloser(bytes.NewReader(nil))
	return resp, nil
}

// Refuse answers an upgrade with r, which a Conn understands.
func Refuse(w http.ResponseWriter, r signal.Refusal) {
	body := r.Body()
	w.Header().Set("Content-Type", signal.ProblemType+"; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if r.RetryAfter != "" {
		w.Header().Set("Retry-After", r.RetryAfter)
	}
	w.WriteHeader(r.Status)
	_, _ = w.Write(body)
}
