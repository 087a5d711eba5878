package observe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// Limits on who asks.
const (
	// maxConnections bounds open connections; further ones wait. A scraper or two, and a prober.
	maxConnections = 32
	// maxScrapes bounds scrapes at a time; further ones are refused with status 503.
	maxScrapes = 4
	// maxHeader bounds a request's header in bytes.
	maxHeader = 8 << 10
	// answerTime bounds a scrape and a health check: a part that does not answer is not well.
	answerTime = 5 * time.Second
	// idleTime bounds an open connection without a request: twice the usual time between scrapes.
	idleTime = 2 * time.Minute
)

// CheckAddr says what is wrong with addr as an address to listen on: a literal IP address and a
// port, since names could mean several.
func CheckAddr(addr string) error {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return errors.New("want an IP address and a port, as in 127.0.0.1:9586 or [::1]:9586")
	}
	return nil
}

// Listen binds addr, which CheckAddr accepts.
func Listen(addr string) (net.Listener, error) {
	if err := CheckAddr(addr); err != nil {
		return nil, fmt.Errorf("listen for metrics on %q: %w", addr, err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics: %w", err)
	}
	return l, nil
}

// Serve answers with Handler on l until ctx is done, and returns nil then. It closes l.
func Serve(ctx context.Context, l net.Listener, source Source) error {
	return ServeHandler(ctx, l, Handler(source))
}

// ServeHandler is Serve with another handler: the same bounds on who asks.
func ServeHandler(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: answerTime,
		ReadTimeout:       answerTime,
		WriteTimeout:      2 * answerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	err := server.Serve(netutil.LimitListener(l, maxConnections))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("answer on %v: %w", l.Addr(), err)
}

// Handler answers /metrics and /healthz.
func Handler(source Source) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collector{source},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	metrics := promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorHandling:       promhttp.HTTPErrorOnError,
		MaxRequestsInFlight: maxScrapes,
		Timeout:             answerTime,
	})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	mux.Handle("GET /healthz", http.TimeoutHandler(health(source), answerTime, "does not answer\n"))
	return mux
}

// health asks the source for everything: a part that can say what it has counted is alive.
func health(source Source) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, alive := source(); !alive {
			http.Error(w, "ending", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
}
