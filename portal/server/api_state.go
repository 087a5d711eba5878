package server

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// deviceView is a device as the API shows it.
type deviceView struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Owner      string            `json:"owner" doc:"The id of the site of a gateway, of the person or service account of a client."`
	OwnerName  string            `json:"owner_name,omitempty"`
	IPv4       string            `json:"ipv4" doc:"Tunnel address."`
	IPv6       string            `json:"ipv6" doc:"Tunnel address."`
	PublicKey  string            `json:"public_key"`
	Verified   bool              `json:"verified"`
	Online     bool              `json:"online"`
	Remote     string            `json:"remote,omitempty" doc:"The address it is connected from."`
	Since      *time.Time        `json:"since,omitempty" doc:"When it connected."`
	Created    time.Time         `json:"created"`
	Seen       time.Time         `json:"seen"`
	Attributes map[string]string `json:"attributes" doc:"What the device says about itself."`
}

// relayView is a connected relay.
type relayView struct {
	ID     string    `json:"id"`
	Name   string    `json:"name,omitempty"`
	IPv4   string    `json:"ipv4,omitempty"`
	IPv6   string    `json:"ipv6,omitempty"`
	Port   uint16    `json:"port"`
	Online time.Time `json:"since"`
}

// authorizationView is an authorization.
type authorizationView struct {
	ID       string    `json:"id"`
	Client   string    `json:"client"`
	Gateway  string    `json:"gateway" doc:"In a device pool, the client that is connected to."`
	Resource string    `json:"resource"`
	Policy   string    `json:"policy"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires"`
}

// flowView is a flow record.
type flowView struct {
	Seq       int64           `json:"seq"`
	Initiator string          `json:"initiator"`
	Resource  string          `json:"resource"`
	Start     time.Time       `json:"start"`
	Closed    bool            `json:"closed"`
	Record    json.RawMessage `json:"record" doc:"The record with its attribution."`
}

func (a *api) registerState(h huma.API) {
	huma.Register(h, operation(http.MethodGet, "/gateways", "list-gateways", "Gateways that have connected at least once"), a.devices(store.Gateway))
	huma.Register(h, operation(http.MethodGet, "/clients", "list-clients", "Clients that have connected at least once"), a.devices(store.Client))
	huma.Register(h, operation(http.MethodGet, "/relays", "list-relays", "Relays that are connected; they serve all accounts"), a.listRelays)
	huma.Register(h, operation(http.MethodGet, "/authorizations", "list-authorizations", "Authorizations that have not expired"), a.listAuthorizations)
	huma.Register(h, operation(http.MethodGet, "/flows", "list-flows", "Flow records, oldest first"), a.listFlows)
}

type deviceQuery struct {
	Paging
	Owner string `query:"owner" maxLength:"64" doc:"Only those of this site, person or service account."`
}

func (a *api) devices(kind store.DeviceKind) func(context.Context, *deviceQuery) (*page[deviceView], error) {
	return func(ctx context.Context, q *deviceQuery) (*page[deviceView], error) {
		account := caller(ctx).Account
		rows, err := a.store.Devices(ctx, account, store.DeviceFilter{Kind: kind, Owner: q.Owner, After: q.After, Limit: q.Limit})
		if err != nil {
			return nil, a.apiError("list devices", err)
		}
		online := map[string]deviceView{}
		a.driver.live(func(s *session) {
			if s.account == account {
				online[s.connect.Device.ID] = deviceView{Remote: addrText(s.connect.Remote), Since: timeOrNil(s.joined)}
			}
		})
		names := a.ownerNames(account)
		views := make([]deviceView, len(rows))
		for i := range rows {
			views[i] = viewDevice(&rows[i], names)
			if live, ok := online[rows[i].ID]; ok {
				views[i].Online, views[i].Remote, views[i].Since = true, live.Remote, live.Since
			}
		}
		return pageOf(views, len(rows) == q.Limit, last(rows, func(d *store.Device) string { return d.ID })), nil
	}
}

func viewDevice(d *store.Device, names map[string]string) deviceView {
	return deviceView{
		ID: d.ID, Name: d.Name, Owner: d.Owner, OwnerName: names[d.Owner], IPv4: addrText(d.IPv4), IPv6: addrText(d.IPv6),
		PublicKey: signal.PublicKey(d.PublicKey).String(), Verified: d.Verified, Created: d.Created, Seen: d.Seen, Attributes: d.Attributes,
	}
}

// ownerNames are the names of the sites and service accounts of an account.
func (a *api) ownerNames(id string) map[string]string {
	names := map[string]string{}
	acc := a.account(id)
	if acc == nil {
		return names
	}
	for _, s := range acc.Sites {
		names[s.ID] = s.Name
	}
	for _, s := range acc.ServiceAccounts {
		names[s.ID] = s.Name
	}
	return names
}

func (a *api) listRelays(_ context.Context, q *Paging) (*page[relayView], error) {
	var all []relayView
	a.driver.live(func(s *session) {
		if c := &s.connect; c.Role == signal.RoleRelay {
			all = append(all, relayView{
				ID: signal.RelayID(c.Stamp).String(), Name: c.Params.Name, IPv4: addrText(c.Params.IPv4), IPv6: addrText(c.Params.IPv6),
				Port: c.Params.Port, Online: s.joined,
			})
		}
	})
	slices.SortFunc(all, func(x, y relayView) int { return cmp.Compare(x.ID, y.ID) })
	from, found := slices.BinarySearchFunc(all, q.After, func(r relayView, id string) int { return cmp.Compare(r.ID, id) })
	if found {
		from++
	}
	all = all[from:]
	full := len(all) > q.Limit
	all = all[:min(len(all), q.Limit)]
	return pageOf(all, full, last(all, func(r *relayView) string { return r.ID })), nil
}

type authorizationQuery struct {
	Paging
	Client   string `query:"client" maxLength:"64"`
	Gateway  string `query:"gateway" maxLength:"64"`
	Resource string `query:"resource" maxLength:"64"`
	Policy   string `query:"policy" maxLength:"64"`
}

func (a *api) listAuthorizations(ctx context.Context, q *authorizationQuery) (*page[authorizationView], error) {
	rows, err := a.store.Authorizations(ctx, caller(ctx).Account, store.AuthorizationFilter{
		Client: q.Client, Gateway: q.Gateway, Resource: q.Resource, Policy: q.Policy, After: q.After, Limit: q.Limit,
	}, time.Now())
	if err != nil {
		return nil, a.apiError("list authorizations", err)
	}
	views := make([]authorizationView, len(rows))
	for i, r := range rows {
		views[i] = authorizationView{r.ID, r.Client, r.Gateway, r.Resource, r.Policy, r.Created, r.Expires}
	}
	return pageOf(views, len(rows) == q.Limit, last(rows, func(r *store.Authorization) string { return r.ID })), nil
}

type flowQuery struct {
	Paging
	Initiator string    `query:"initiator" maxLength:"64"`
	Resource  string    `query:"resource" maxLength:"64"`
	From      time.Time `query:"from" doc:"Only flows that started then or later."`
	Until     time.Time `query:"until" doc:"Only flows that started before."`
}

func (a *api) listFlows(ctx context.Context, q *flowQuery) (*page[flowView], error) {
	var after int64
	if q.After != "" {
		var err error
		if after, err = strconv.ParseInt(q.After, 10, 64); err != nil {
			return nil, huma.Error422UnprocessableEntity("after is not a number")
		}
	}
	rows, err := a.store.FlowLogs(ctx, caller(ctx).Account, store.FlowLogFilter{
		Initiator: q.Initiator, Resource: q.Resource, From: q.From, Until: q.Until, After: after, Limit: q.Limit,
	})
	if err != nil {
		return nil, a.apiError("list flow records", err)
	}
	views := make([]flowView, len(rows))
	for i, r := range rows {
		views[i] = flowView{r.Seq, r.Initiator, r.Resource, r.Start, r.Closed, r.Body}
		if !json.Valid(r.Body) {
			views[i].Record = nil
		}
	}
	return pageOf(views, len(rows) == q.Limit, last(rows, func(r *store.StoredFlowLog) string { return strconv.FormatInt(r.Seq, 10) })), nil
}
