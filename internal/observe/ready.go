package observe

import (
	"fmt"
	"net/http"
)

// Ready says whether a part does its job at this moment, for which being alive is not enough, and
// in a few words what it runs or what it waits for. Any goroutine may call it; it does not wait.
type Ready func() (ready bool, text string)

// Probes answers what supervisors and load balancers ask: /healthz, with status 200 as long as
// anything answers, and /readyz, with 200 or 503 as ready says.
func Probes(ready Ready) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		is, text := ready()
		if !is {
			http.Error(w, text, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, text)
	})
	return mux
}
