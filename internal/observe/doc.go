// Package observe is what a running part shows of itself: counters and gauges for Prometheus, and
// whether it is alive and does its job, over HTTP.
//
// It holds no numbers. A part hands in a Source, which is called at each scrape and reads the
// counters that the part keeps anyway; packets cost nothing. Serve calls the source from several
// goroutines, at most maxScrapes at a time.
//
// The endpoints are /metrics and /healthz, and for supervisors and load balancers, by Probes,
// /healthz and /readyz. They show no names, addresses or keys of peers, and ask for no password:
// /metrics belongs on a loopback or management address.
package observe
