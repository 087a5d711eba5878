package server

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/firelane/firelane/internal/channel"
	"github.com/firelane/firelane/portal"
	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// The limits on upgrades.
const (
	// upgradeInterval is how often one token may be used from one address.
	upgradeInterval = time.Second
	// An address may fail failureBurst times at once, and every failureInterval from then on: the
	// devices behind one address that hold revoked tokens stop at their first failure.
	failureBurst    = 100
	failureInterval = time.Second / 10
	// askTime bounds what the store may take for one request.
	askTime = 10 * time.Second
	// maxAttribute bounds what is kept of each thing a device says about itself, as the store does.
	maxAttribute = 255
)

// The kinds of actors, as gateways are told.
const (
	personKind  = "account_user"
	serviceKind = "service_account"
)

// tokenKinds are the tokens that open a role's socket.
var tokenKinds = map[signal.Role][]store.TokenKind{
	signal.RoleGateway: {store.GatewayToken},
	signal.RoleClient:  {store.ClientToken, store.ServiceToken},
	signal.RoleRelay:   {store.RelayToken},
}

// serveSocket is the way in of devices: it checks in the protocol's order (token there, rate, token
// good, the rest), and answers what it refuses with a problem document.
func (s *Server) serveSocket(w http.ResponseWriter, r *http.Request) {
	role, dialect, _ := signal.ParseEndpoint(r.URL.Path)
	if !isUpgrade(r) {
		channel.Refuse(w, *refuse(http.StatusBadRequest, signal.CodeInvalidParams, "this is a websocket"))
		return
	}
	c, refusal := s.admit(r, role)
	if refusal != nil {
		s.refused.Add(1)
		s.log.Debug("upgrade refused", "role", role, "why", *refusal)
		channel.Refuse(w, *refusal)
		return
	}
	leave := func() { s.sockets.give(subnet(c.Remote)) }
	session := &session{
		id: portal.ConnID(s.nextConn.Add(1)), driver: s.driver, connect: c.Connect, account: c.account, confirm: s.confirm, leave: leave,
	}
	if _, err := s.channels.Accept(w, r, role, dialect, session); err != nil {
		leave() // nobody is told that the session has closed
		s.log.Debug("upgrade failed", "role", role, "error", err)
	}
}

func isUpgrade(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// admitted is who may come in.
type admitted struct {
	portal.Connect
	account string
}

// admit decides about an upgrade. Who is admitted has one of its address's share.
func (s *Server) admit(r *http.Request, role signal.Role) (c admitted, refusal *signal.Refusal) {
	now := time.Now()
	from := s.clientAddr(r)
	text, err := signal.TokenFrom(r.Header.Get(signal.TokenHeader), r.URL.RawQuery)
	if err != nil {
		return c, refuse(http.StatusUnauthorized, signal.CodeMissingToken, "Missing token")
	}
	if wait, ok := s.upgrades.take(attemptOf(from, text.Reveal()), now); !ok {
		return c, tooFast(wait)
	}
	ctx, cancel := context.WithTimeout(r.Context(), askTime)
	defer cancel()
	token, refusal := s.authenticate(ctx, text.Reveal(), from, now, tokenKinds[role]...)
	if refusal != nil {
		return c, refusal
	}
	who, ok, err := s.holder(ctx, &token)
	if err != nil {
		return c, s.broken("look up the holder of a token", err)
	}
	if !ok {
		return c, refuse(http.StatusUnauthorized, signal.CodeInvalidToken, "Invalid token")
	}
	params, err := signal.ParseParams(role, r.URL.RawQuery)
	if err != nil {
		return c, invalid(err)
	}
	agent, known := signal.ParseAgent(r.UserAgent())
	if !known && role == signal.RoleClient {
		return c, refuse(http.StatusBadRequest, signal.CodeInvalidParams, "user_agent is invalid")
	}
	c = admitted{account: token.Account, Connect: portal.Connect{
		Role: role, Params: params, Agent: agent, UserAgent: clip(r.UserAgent()), Remote: from, Location: s.location(r),
		TokenID: token.ID, TokenExpires: token.Expires, Actor: who.actor, ActorName: who.name, ActorKind: who.kind,
	}}
	if !s.sockets.take(subnet(from)) {
		return c, tooMany()
	}
	if role != signal.RoleRelay {
		refusal = s.connectDevice(ctx, &c, &token, now)
	}
	if refusal != nil {
		s.sockets.give(subnet(from))
		return c, refusal
	}
	s.uses.note(&token, now)
	return c, nil
}

// authenticate finds the token of a text, and counts failures against the address they come from. A
// good token is good whatever its neighbours do.
func (s *Server) authenticate(ctx context.Context, text string, from netip.Addr, now time.Time, kinds ...store.TokenKind) (store.Token, *signal.Refusal) {
	token, err := s.store.Authenticate(ctx, text, now, kinds...)
	if errors.Is(err, store.ErrToken) {
		if wait, ok := s.failures.take(subnet(from), now); !ok {
			return token, tooFast(wait)
		}
		return token, refuse(http.StatusUnauthorized, signal.CodeInvalidToken, "Invalid token")
	} else if err != nil {
		return token, s.broken("authenticate a token", err)
	}
	return token, nil
}

// holder is who a token belongs to.
type holder struct {
	actor      config.Actor
	name, kind string
}

// holder looks up who holds a token; ok is false if the policy file or an administrator has done
// away with them.
func (s *Server) holder(ctx context.Context, t *store.Token) (h holder, ok bool, err error) {
	if t.Kind == store.RelayToken {
		return h, true, nil
	}
	a := s.account(t.Account)
	if a == nil {
		return h, false, nil
	}
	switch t.Kind {
	case store.GatewayToken:
		for i := range a.Sites {
			ok = ok || a.Sites[i].ID == t.Subject
		}
	case store.ServiceToken:
		for i := range a.ServiceAccounts {
			if sa := &a.ServiceAccounts[i]; sa.ID == t.Subject && !sa.Disabled {
				return holder{config.Actor{ServiceAccount: sa.ID}, sa.Name, serviceKind}, true, nil
			}
		}
	case store.ClientToken:
		p, err := s.store.Person(ctx, t.Account, t.Subject)
		if errors.Is(err, store.ErrNotFound) {
			return h, false, nil
		} else if err != nil {
			return h, false, err
		}
		actor := actorOf(&p)
		actor.Provider = t.Provider // which vouched for this session
		if !providerEnabled(a, t.Provider) {
			return h, false, nil
		}
		return holder{actor, p.Name, personKind}, !p.Disabled, nil
	}
	return h, ok, nil
}

func providerEnabled(a *config.Account, id string) bool {
	for i := range a.Providers {
		if a.Providers[i].ID == id {
			return !a.Providers[i].Disabled
		}
	}
	return id == ""
}

// connectDevice finds or makes the row of a client or gateway.
func (s *Server) connectDevice(ctx context.Context, c *admitted, t *store.Token, now time.Time) *signal.Refusal {
	kind := store.Client
	if c.Role == signal.RoleGateway {
		kind = store.Gateway
	}
	p := &c.Params
	name := p.Name
	if name == "" {
		name = strings.ToLower(kindName(kind)) + "-" + clip(p.ExternalID)[:min(len(p.ExternalID), 5)]
	}
	attributes := map[string]string{}
	for key, value := range map[string]string{
		"os": c.Agent.OS, "os_version": c.Agent.OSVersion, "component": c.Agent.Component, "version": c.Agent.Version,
		"serial": p.DeviceSerial, "uuid": p.DeviceUUID, "identifier_for_vendor": p.IdentifierForVendor,
		"firebase_installation_id": p.FirebaseInstallationID, "remote_ip": addrText(c.Remote),
	} {
		if value = clip(value); value != "" {
			attributes[key] = value
		}
	}
	d, _, err := s.store.ConnectDevice(ctx, store.DeviceNews{
		DeviceKey: store.DeviceKey{Account: t.Account, Kind: kind, Owner: t.Subject, ExternalID: p.ExternalID},
		Name:      name, PublicKey: p.PublicKey, Attributes: attributes,
	}, now)
	switch {
	case errors.Is(err, store.ErrFull):
		return refuse(http.StatusPaymentRequired, signal.CodeLimitsExceeded, "The account, or the owner of the device, has as many devices as it may")
	case errors.Is(err, store.ErrInvalid):
		return refuse(http.StatusBadRequest, signal.CodeInvalidParams, clip(err.Error()))
	case errors.Is(err, store.ErrBusy):
		return tooFast(time.Second)
	case err != nil:
		return s.broken("store a device", err)
	}
	c.Device = d
	return nil
}

// actorOf is a person as policies see it. The store keeps claims as name=value.
func actorOf(p *store.Person) config.Actor {
	a := config.Actor{Email: p.Email, Provider: p.Provider, Claims: map[string]map[string][]string{}}
	for provider, said := range p.Claims {
		by := map[string][]string{}
		for _, c := range said {
			if name, value, ok := strings.Cut(c, "="); ok {
				by[name] = append(by[name], value)
			}
		}
		a.Claims[provider] = by
	}
	return a
}

// location is where a request comes from, as one of our proxies says if they can be believed in
// this; unknown otherwise.
func (s *Server) location(r *http.Request) (l portal.Location) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !s.options.GeoHeaders || !s.trusts(peer.Addr().Unmap()) {
		return l
	}
	if region := r.Header.Get("X-Azure-Geo-Country"); isRegion(region) {
		l.Region = region
		return l
	}
	if region := r.Header.Get("X-Geo-Location-Region"); isRegion(region) {
		l.Region, l.City = region, clip(r.Header.Get("X-Geo-Location-City"))
	}
	lat, lon, ok := strings.Cut(r.Header.Get("X-Geo-Location-Coordinates"), ",")
	y, yErr := strconv.ParseFloat(strings.TrimSpace(lat), 64)
	x, xErr := strconv.ParseFloat(strings.TrimSpace(lon), 64)
	if ok && yErr == nil && xErr == nil && y >= -90 && y <= 90 && x >= -180 && x <= 180 {
		l.Latitude, l.Longitude, l.Located = y, x, true
	}
	return l
}

// isRegion accepts ISO 3166 alpha-2.
func isRegion(s string) bool {
	return len(s) == 2 && s[0] >= 'A' && s[0] <= 'Z' && s[1] >= 'A' && s[1] <= 'Z'
}

func refuse(status int, code, detail string) *signal.Refusal {
	r := signal.NewRefusal(status, http.StatusText(status), code, detail)
	return &r
}

// tooFast is 503: devices of old take 429 for the end.
func tooFast(wait time.Duration) *signal.Refusal {
	r := refuse(http.StatusServiceUnavailable, signal.CodeRateLimit, "Too many attempts")
	r.RetryAfter = retryAfter(wait)
	return r
}

// shareWait is when a device whose address has its share may try again: places become free when others
// leave, which the refused cannot hurry.
const shareWait = 10 * time.Second

// tooMany is for devices whose address has its share.
func tooMany() *signal.Refusal {
	r := refuse(http.StatusServiceUnavailable, signal.CodeRateLimit, "Too many connections from this address")
	r.RetryAfter = retryAfter(shareWait)
	return r
}

// retryAfter is a header's value: whole seconds, one at least.
func retryAfter(wait time.Duration) string {
	return strconv.Itoa(max(int((wait+time.Second-1)/time.Second), 1))
}

func invalid(err error) *signal.Refusal {
	var params *signal.ParamError
	if errors.As(err, &params) {
		r := params.Refusal()
		return &r
	}
	return refuse(http.StatusBadRequest, signal.CodeInvalidParams, "parameters are malformed")
}

// broken is what is said about errors of our own: nothing. A device comes back later.
func (s *Server) broken(what string, err error) *signal.Refusal {
	if !errors.Is(err, context.Canceled) {
		s.log.Error("cannot "+what, "error", err)
	}
	return refuse(http.StatusInternalServerError, signal.CodeUnhandled, "The portal cannot do that now")
}

// clip keeps text that goes into the database short.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "")
	if len(s) <= maxAttribute {
		return s
	}
	return strings.ToValidUTF8(s[:maxAttribute], "")
}

func kindName(k store.DeviceKind) string {
	if k == store.Gateway {
		return "gateway"
	}
	return "client"
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
