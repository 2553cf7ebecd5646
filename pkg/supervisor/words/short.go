package words

import (
	"strings"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

func until(t, now unit.Time) string { return Short(max(0, time.Duration(t-now))) }

// Short is a duration with as many digits as people want to read.
func Short(d time.Duration) string {
	switch {
	case d == unit.Infinity:
		return "infinity"
	case d >= 10*time.Second:
		d = d.Round(time.Second)
	case d >= time.Second:
		d = d.Round(100 * time.Millisecond)
	default:
		d = d.Round(time.Millisecond)
	}
	s := d.String()
	for _, zero := range []string{"0s", "0m"} {
		if t := strings.TrimSuffix(s, zero); t != s && t != "" && strings.ContainsAny(t[len(t)-1:], "hm") {
			s = t
		}
	}
	return s
}

// Percent is how much part is of sum, to a hundredth.
func Percent(part, sum int) float64 {
	if sum == 0 {
		return 0
	}
	return float64(part*10000/sum) / 100
}
