package supervisor

import (
	"testing"

	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
)

// Whoever prints warnings says that they are such.
func TestWarningsAreCalledSoOnce(t *testing.T) {
	_, warnings := sortOut([]config.Problem{{File: "/etc/x.toml", Line: 3, Col: 1, Key: "service.a", Message: "it runs as root", Warning: true}})
	if len(warnings) != 1 || warnings[0] != "/etc/x.toml:3:1: service.a: it runs as root" {
		t.Errorf("%q", warnings)
	}
}
