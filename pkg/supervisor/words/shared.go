package words

import (
	"fmt"

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
