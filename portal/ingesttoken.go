package portal

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/firelane/firelane/protocol/signal"
)

const (
	// ingestGrace is how long after its authorization's end an ingest token is good: devices upload
	// late.
	ingestGrace = 30 * 24 * time.Hour
	// claimTime is the form of times in claims.
	claimTime = "2006-01-02T15:04:05.000000Z"
)

// IngestKey returns the key of an account's ingest tokens, derived from the portal's secret.
func IngestKey(secret [32]byte, account string) signal.Secret {
	h := hmac.New(sha256.New, secret[:])
	h.Write([]byte("flow log ingest key|"))
	h.Write([]byte(account))
	return signal.NewSecret(string(h.Sum(nil)))
}

// ingestToken makes the token with which one end of an authorization uploads flow records. There is
// none if one of its ids is zero, which authorize does not let happen, or the resource has gone.
func (p *Portal) ingestToken(c *client, a *authorization, r *resource, role signal.IngestRole, now time.Time) (signal.Secret, error) {
	if r == nil {
		return signal.Secret{}, errors.New("resource has gone")
	}
	policy := c.account.policies[a.policy]
	claims := signal.IngestClaims{
		AccountID: c.account.id, IssuedAt: now.Unix(), ExpiresAt: a.expires.Add(ingestGrace).Unix(),
		UploadsEnabled: policy != nil && policy.FlowLogs, Role: role,
		InitiatorDeviceID: a.client, ResponderDeviceID: a.gateway,
		PolicyAuthorizationID: a.id, PolicyID: a.policy, ResourceID: a.resource, ResourceName: r.Name,
		InitiatorActorID: uuid(c.device.owner), InitiatorActorName: c.ActorName,
		AuthorizedAt:           a.created.UTC().Format(claimTime),
		AuthorizationExpiresAt: a.expires.UTC().Format(claimTime),

		ResourceAddress: r.Address, ActorEmail: c.Actor.Email, AuthProviderID: c.Actor.Provider,
		ClientVersion: c.Agent.Version, DeviceOSName: c.Agent.OS, DeviceOSVersion: c.Agent.OSVersion,
		DeviceSerial: c.Params.DeviceSerial, DeviceUUID: c.Params.DeviceUUID,
		IdentifierForVendor: c.Params.IdentifierForVendor, FirebaseInstallationID: c.Params.FirebaseInstallationID,
	}
	return signal.SignIngestToken(claims, IngestKey(p.settings.Secret, c.account.ID))
}
