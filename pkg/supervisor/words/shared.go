package words

import (
	"fmt"

	"github.com/supervisord-go/supervisord/pkg/supervisor/service"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Shared says of each socket of a service that was to be steered why it is not, and what
// a reload cannot do because of that.
func Shared(s *unit.Spec) (notes []string) {
	for _, k := range s.Sockets {
		if k.Unsteered == "" {
			continue
		}
		note := fmt.Sprintf("[socket.%s] is shared: %s", k.Name, k.Unsteered)
		if c := noCanary(s); c != "" {
			note += "; " + c
		}
		notes = append(notes, note)
	}
	return notes
}

// noCanary is empty if nobody asked for one, or it is possible.
func noCanary(s *unit.Spec) string {
	if s.Life.Canary == 0 || s.Life.Steer {
		return ""
	}
	return fmt.Sprintf("canary %d%% is not possible", s.Life.Canary)
}

// StillShared says of sockets that are to be steered why a reload found them shared, and
// what helps: they were open before they were to be.
func StillShared(v *service.View, names []string) (notes, hints []string) {
	b := v.State.Build(v.State.Current)
	if b == nil || len(names) == 0 {
		return nil, nil
	}
	for _, name := range names {
		note := fmt.Sprintf("[socket.%s] is still shared, as it was when it was opened", name)
		if c := b.Spec.Life.Canary; c > 0 {
			note += fmt.Sprintf(": canary %d%% was not possible", c)
		}
		notes = append(notes, note)
	}
	return notes, []string{"to steer it: superctl restart " + v.Name}
}
