package portal

import (
	"math/rand/v2"

	"github.com/firelane/firelane/protocol/signal"
)

// die is a channel that is dead, and nobody notices.
func (m *model) die(r *rand.Rand) {
	if x := m.pick(r, oneOf(r, []signal.Role{signal.RoleClient, signal.RoleGateway, signal.RoleGateway})); x != nil {
		x.dead = true
	}
}

// lose is a message that does not arrive. The portal cannot know what a device has heard of, and passes
// on candidates all the same once it has come back.
func (m *model) lose(x *party, msg signal.Message) {
	m.lost++
	switch msg := msg.(type) {
	case signal.AuthorizationCreated:
		m.learn(x, msg.GatewayID)
	case signal.DeviceAccessAuthorized:
		if msg.Role == signal.Controlling {
			m.learn(x, msg.ClientID)
		}
	}
}

func (m *model) learn(x *party, other signal.ID) {
	if o := m.parties[other]; o != nil {
		m.know[keyPair{x.id, o.id, x.key, o.key}] = true
	}
}
