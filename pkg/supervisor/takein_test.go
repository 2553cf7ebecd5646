package supervisor

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
)

// Who shows warnings says that they are some.
func TestWarningsAreNotCalledSoTwice(t *testing.T) {
	errs, warnings := sortOut([]config.Problem{
		{File: "s.toml", Line: 1, Col: 2, Key: "service.a.user", Message: "nobody knows it", Warning: true},
		{File: "s.toml", Line: 3, Col: 4, Key: "service.b.user", Message: "no such user"},
	})
	if diff := cmp.Diff([]string{"s.toml:3:4: service.b.user: no such user"}, errs); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"s.toml:1:2: service.a.user: nobody knows it"}, warnings); diff != "" {
		t.Error(diff)
	}
}
