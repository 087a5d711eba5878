package portal

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// flowRecord is a record as devices upload it. Other keys are ignored.
type flowRecord struct {
	AuthorizationID *string `json:"policy_authorization_id,omitempty"`

	Protocol   string     `json:"protocol"`
	SrcIP      netip.Addr `json:"inner_src_ip"`
	SrcPort    *uint16    `json:"inner_src_port"`
	DstIP      netip.Addr `json:"inner_dst_ip"`
	DstPort    *uint16    `json:"inner_dst_port"`
	Domain     *string    `json:"domain,omitempty"`
	Outers     []flowPath `json:"outers,omitempty"`
	FlowStart  *time.Time `json:"flow_start"`
	FlowEnd    *time.Time `json:"flow_end,omitempty"`
	LastPacket *time.Time `json:"last_packet,omitempty"`
	RxPackets  *int64     `json:"rx_packets,omitempty"`
	TxPackets  *int64     `json:"tx_packets,omitempty"`
	RxBytes    *int64     `json:"rx_bytes,omitempty"`
	TxBytes    *int64     `json:"tx_bytes,omitempty"`
}

// flowPath is an outer path of a flow. The source is absent when it is not known.
type flowPath struct {
	SrcIP       *netip.Addr `json:"src_ip,omitempty"`
	SrcPort     *uint16     `json:"src_port,omitempty"`
	DstIP       netip.Addr  `json:"dst_ip"`
	DstPort     *uint16     `json:"dst_port"`
	ActivatedAt *time.Time  `json:"path_activated_at"`
}

// storedRecord is the body of a flow log in the store: the record, and whom the token attributes it
// to.
type storedRecord struct {
	Role            signal.IngestRole `json:"role"`
	Initiator       signal.ID         `json:"initiator_device_id"`
	Responder       signal.ID         `json:"responder_device_id"`
	AuthorizationID signal.ID         `json:"policy_authorization_id"`
	Policy          signal.ID         `json:"policy_id"`
	Resource        signal.ID         `json:"resource_id"`
	ResourceName    string            `json:"resource_name"`
	Actor           signal.ID         `json:"initiator_actor_id"`
	ActorName       string            `json:"initiator_actor_name"`
	ActorEmail      string            `json:"initiator_actor_email,omitempty"`
	flowRecord
}

// maxDomain bounds a name in text form.
const maxDomain = 255

// errForeign: the record is of another authorization than the token.
var errForeign = errors.New("policy_authorization_id is another one")

// readRecord checks one record and attributes it.
func readRecord(raw json.RawMessage, c *signal.IngestClaims) (store.FlowLog, error) {
	var r flowRecord
	if len(raw) > store.MaxFlowBody {
		return store.FlowLog{}, fmt.Errorf("is longer than %d bytes", store.MaxFlowBody)
	}
	if json.Unmarshal(raw, &r) != nil {
		return store.FlowLog{}, errors.New("is malformed")
	}
	if r.AuthorizationID != nil && !strings.EqualFold(*r.AuthorizationID, c.PolicyAuthorizationID.String()) {
		return store.FlowLog{}, errForeign
	}
	r.AuthorizationID = nil
	if err := r.check(); err != nil {
		return store.FlowLog{}, err
	}
	body, err := json.Marshal(storedRecord{
		c.Role, c.InitiatorDeviceID, c.ResponderDeviceID, c.PolicyAuthorizationID, c.PolicyID, c.ResourceID, c.ResourceName,
		c.InitiatorActorID, c.InitiatorActorName, c.ActorEmail, r,
	})
	if err != nil || len(body) > store.MaxFlowBody {
		return store.FlowLog{}, fmt.Errorf("is longer than %d bytes", store.MaxFlowBody)
	}
	return store.FlowLog{
		FlowKey: store.FlowKey{
			Initiator: c.InitiatorDeviceID.String(), Role: string(c.Role), Start: *r.FlowStart, Protocol: r.Protocol,
			Src: netip.AddrPortFrom(r.SrcIP, *r.SrcPort), Dst: netip.AddrPortFrom(r.DstIP, *r.DstPort), Resource: c.ResourceID.String(),
		},
		Closed: r.FlowEnd != nil, Body: body,
	}, nil
}

func (r *flowRecord) check() error {
	switch {
	case r.Protocol != "tcp" && r.Protocol != "udp":
		return errors.New("protocol is neither tcp nor udp")
	case !r.SrcIP.IsValid() || !r.DstIP.IsValid() || r.SrcIP.Zone() != "" || r.DstIP.Zone() != "":
		return errors.New("inner_src_ip or inner_dst_ip is missing")
	case r.SrcPort == nil || r.DstPort == nil:
		return errors.New("inner_src_port or inner_dst_port is missing")
	case r.SrcIP.Is4() != r.DstIP.Is4():
		return errors.New("inner addresses are of different families")
	case r.Domain != nil && len(*r.Domain) > maxDomain:
		return errors.New("domain is too long")
	case r.FlowStart == nil || !storable(*r.FlowStart):
		return errors.New("flow_start is missing")
	case len(r.Outers) > maxOuters:
		return fmt.Errorf("outers are more than %d", maxOuters)
	}
	for i := range r.Outers {
		if err := r.Outers[i].check(); err != nil {
			return err
		}
	}
	return r.checkEnd()
}

// checkEnd: the record of a flow's beginning has nothing that is known at its end only.
func (r *flowRecord) checkEnd() error {
	counters := []*int64{r.RxPackets, r.TxPackets, r.RxBytes, r.TxBytes}
	for _, n := range counters {
		if r.FlowEnd == nil && n != nil {
			return errors.New("counters without flow_end")
		}
		if r.FlowEnd != nil && (n == nil || *n < 0) {
			return errors.New("counters are missing or negative")
		}
	}
	switch {
	case r.FlowEnd == nil && r.LastPacket != nil:
		return errors.New("last_packet without flow_end")
	case r.FlowEnd == nil:
		return nil
	case r.LastPacket == nil || len(r.Outers) == 0:
		return errors.New("last_packet or outers are missing")
	case r.FlowEnd.Before(*r.FlowStart) || !storable(*r.FlowEnd) || !storable(*r.LastPacket):
		return errors.New("flow_end is before flow_start")
	}
	return nil
}

func (f *flowPath) check() error {
	switch {
	case (f.SrcIP == nil) != (f.SrcPort == nil) || f.SrcIP != nil && !f.SrcIP.IsValid():
		return errors.New("src_ip and src_port of a path belong together")
	case !f.DstIP.IsValid() || f.DstPort == nil:
		return errors.New("dst_ip or dst_port of a path is missing")
	case f.ActivatedAt == nil || !storable(*f.ActivatedAt):
		return errors.New("path_activated_at is missing")
	}
	return nil
}

// storable reports whether a time is one that a clock may show and that JSON can write again.
func storable(t time.Time) bool { return t.Year() >= 1970 && t.Year() < 9999 }
