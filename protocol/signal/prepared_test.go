package signal

import (
	"bytes"
	"testing"
)

// What is prepared reads as what is not, byte by byte, under either names, alone and in an init.
func TestPreparedResourcesReadTheSame(t *testing.T) {
	face := Interface{IPv4: addr4("100.64.12.9"), IPv6: addr6("fd00:2021:1111::3:7"), SearchDomain: `"resources":[]`}
	plain := Resources{
		{ID: resourceID, Type: CIDR, Name: "<a> \"b\"", Address: "10.2.0.0/16", Sites: List[Site]{{siteID, "lab"}}, Filters: List[Filter]{{Protocol: ICMP}}},
		{ID: resourceID, Type: DynamicPool, Name: "dyn", Address: "*.pool"},
		{ID: resourceID, Type: Internet, Sites: List[Site]{{siteID, "lab"}}, CanBeDisabled: true},
	}
	for _, legacy := range []bool{false, true} {
		var list, prepared Resources
		for _, r := range plain {
			r.LegacyNames = legacy
			list = append(list, r)
			p := r.Prepared()
			p.LegacyNames = legacy
			prepared = append(prepared, p)
		}
		for _, n := range []int{0, 1, len(plain)} {
			want, err := EncodeFromPortal(RoleClient, V2, ClientInit{Interface: face, Resources: list[:n]})
			if err != nil {
				t.Fatal(err)
			}
			got, err := EncodeFromPortal(RoleClient, V2, ClientInit{Interface: face, Resources: prepared[:n]})
			if err != nil || !bytes.Equal(got.PortalText(), want.PortalText()) {
				t.Errorf("%d resources, legacy %v: %v\n%s\nwant\n%s", n, legacy, err, got.Payload, want.Payload)
			}
			if groups := bytes.Count(got.Payload, []byte(`"gateway_groups":`)); legacy != (groups > 0) && n > 0 || legacy && bytes.Contains(got.Payload, []byte(`"sites":`)) {
				t.Errorf("legacy %v: %s", legacy, got.Payload)
			}
		}
		one, _ := EncodeFromPortal(RoleClient, V2, ResourceChanged{prepared[0]})
		if other, err := EncodeFromPortal(RoleClient, V2, ResourceChanged{list[0]}); err != nil || !bytes.Equal(one.Payload, other.Payload) {
			t.Errorf("%v: %s, want %s", err, one.Payload, other.Payload)
		}
	}
	if r := (ClientResource{ID: resourceID, Type: CIDR, Address: "x"}).Prepared(); r.texts != nil {
		t.Error("what cannot be written is prepared")
	}
	if _, err := EncodeFromPortal(RoleClient, V2, ClientInit{Resources: Resources{plain[0].Prepared()}}); err == nil {
		t.Error("an init without addresses is written")
	}
}
