package server

import (
	"strings"
	"testing"

	"github.com/firelane/firelane/protocol/signal"
)

// Devices that do not know the exchange of 1.4 are refused when they join.
func TestDevicesThatAreTooOldAreRefused(t *testing.T) {
	p := start(t, policy)
	for version, answer := range map[string]string{
		"1.3.9": `"response":{"reason":"invalid_version"},"status":"error"`, "1.4.0": `"status":"ok"`, "1.5.0": `"status":"ok"`,
	} {
		agent := signal.Agent{OS: "Ubuntu", OSVersion: "24.4.0", Component: "headless-client", Version: version}
		c := p.rawAs(agent, signal.RoleClient, p.token(TokenWish{ServiceAccount: "ci"}), rawQuery) // one token may come back once a second
		reply, err := say(t, c, `{"topic":"client","event":"phx_join","payload":null,"ref":0}`)
		if err != nil || !strings.Contains(reply, answer) {
			t.Errorf("version %s: %s, %v; want %s", version, reply, err, answer)
		}
	}
}
