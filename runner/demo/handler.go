package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// maxRecord bounds the body of one record, in bytes.
const maxRecord = 64 << 10

// handler routes requests. The switches themselves always answer, so that a hang can be taken back.
func (s *server) handler() http.Handler {
	work := http.NewServeMux()
	work.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		s.print(w, fmt.Sprintf("%s %s\n", s.opts.Version, s.opts.Pod))
	})
	work.HandleFunc("GET /config", s.serveConfig)
	work.HandleFunc("GET /records", s.listRecords)
	work.HandleFunc("PUT /records/{id}", s.addRecord)
	work.HandleFunc("POST /records/{id}", s.addRecord)

	mux := http.NewServeMux()
	mux.Handle("/", s.misbehave(work))
	mux.Handle("GET /healthz", s.hang(s.health(func() error { return nil })))
	mux.Handle("GET /readyz", s.hang(s.health(s.ready)))
	mux.Handle("GET /startupz", s.hang(s.health(func() error {
		if time.Since(s.started) < s.opts.StartDelay {
			return errors.New("starting")
		}
		return nil
	})))
	mux.HandleFunc("GET /switch", func(w http.ResponseWriter, _ *http.Request) { s.json(w, s.switches.get()) })
	mux.HandleFunc("POST /switch/{name}", s.turnSwitch)
	return mux
}

// hang answers nothing while the hang switch is on.
func (s *server) hang(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.switches.get().Hang {
			<-r.Context().Done()
			panic(http.ErrAbortHandler) // not even an empty answer
		}
		next.ServeHTTP(w, r)
	})
}

// misbehave hangs, delays and fails as the switches say.
func (s *server) misbehave(next http.Handler) http.Handler {
	return s.hang(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(TagHeader, s.opts.Version)
		if !wait(r.Context(), s.switches.get().Delay) {
			return
		}
		if status, failing := s.switches.failing(); failing {
			http.Error(w, "switched to errors", status)
			return
		}
		if s.configFails() && s.opts.ConfigFailure == FailError {
			http.Error(w, "config: "+s.config.err().Error(), http.StatusInternalServerError)
			return
		}
		next.ServeHTTP(w, r)
	}))
}

func (s *server) health(check func() error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := check(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		s.print(w, "ok\n")
	})
}

// print answers with text. A client that has gone is no error of ours.
func (s *server) print(w http.ResponseWriter, text string) { _, _ = io.WriteString(w, text) }

func (s *server) json(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	s.print(w, string(b)+"\n")
}

func (s *server) serveConfig(w http.ResponseWriter, _ *http.Request) {
	if s.config == nil {
		http.Error(w, "no config", http.StatusNotFound)
		return
	}
	s.json(w, s.config.values())
}

func (s *server) listRecords(w http.ResponseWriter, _ *http.Request) {
	if s.records == nil {
		http.Error(w, "no data folder", http.StatusNotFound)
		return
	}
	s.json(w, s.records.list())
}

// addRecord acknowledges (201) only what is on the disk.
func (s *server) addRecord(w http.ResponseWriter, r *http.Request) {
	if s.records == nil {
		http.Error(w, "no data folder", http.StatusNotFound)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRecord))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := s.records.add(r.PathValue("id"), string(body)); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusCreated)
}

// turnSwitch turns one switch; what it needs stands in the query. Without a query a switch is turned on as far as that
// says something, and ?on=false turns it off.
func (s *server) turnSwitch(w http.ResponseWriter, r *http.Request) {
	change, err := switchFromQuery(r.PathValue("name"), r.URL.Query())
	if err == nil {
		err = s.switches.set(change)
	}
	switch {
	case errors.Is(err, errNoSwitch):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
	default:
		s.json(w, s.switches.get())
	}
}

var errNoSwitch = errors.New("no such switch: crash, hang, unready, leak, burn, slow, errors")

// switchFromQuery reads /switch/NAME?...: crash?code=&after=, hang, unready, leak?bytesPerSecond=&maxBytes=,
// burn?cores=, slow?delay=, errors?status=&share=.
func switchFromQuery(name string, q url.Values) (func(*Switches), error) {
	p := query{values: q}
	on := p.bool("on", true)
	var change func(*Switches)
	switch name {
	case "crash":
		c := Crash{On: on, After: p.duration("after", 0), Code: int(p.int("code", 1))}
		change = func(s *Switches) { s.Crash = c }
	case "hang":
		change = func(s *Switches) { s.Hang = on }
	case "unready":
		change = func(s *Switches) { s.Unready = on }
	case "leak":
		l := Leak{BytesPerSecond: p.int("bytesPerSecond", 10<<20), MaxBytes: p.int("maxBytes", defaultLeak)}
		change = onlyIf(on, func(s *Switches) *Leak { return &s.Leak }, l)
	case "burn":
		change = onlyIf(on, func(s *Switches) *float64 { return &s.BurnCores }, p.float("cores", 1))
	case "slow":
		change = onlyIf(on, func(s *Switches) *time.Duration { return &s.Delay }, p.duration("delay", time.Second))
	case "errors":
		e := Errors{Status: int(p.int("status", 500)), Share: p.float("share", 1)}
		change = onlyIf(on, func(s *Switches) *Errors { return &s.Errors }, e)
	default:
		return nil, fmt.Errorf("%q: %w", name, errNoSwitch)
	}
	for key := range q {
		if !p.asked[key] {
			p.errs = append(p.errs, fmt.Errorf("%s takes no %q", name, key))
		}
	}
	return change, errors.Join(p.errs...)
}

// onlyIf sets a switch to the value, or to nothing where it is turned off.
func onlyIf[T any](on bool, field func(*Switches) *T, value T) func(*Switches) {
	return func(s *Switches) {
		var off T
		if !on {
			value = off
		}
		*field(s) = value
	}
}

// query reads typed values and collects what is wrong with them.
type query struct {
	values url.Values
	asked  map[string]bool
	errs   []error
}

func (p *query) read(key string, parse func(string) error) {
	if p.asked == nil {
		p.asked = map[string]bool{}
	}
	p.asked[key] = true
	if !p.values.Has(key) {
		return
	}
	if err := parse(p.values.Get(key)); err != nil {
		p.errs = append(p.errs, fmt.Errorf("%s: %w", key, err))
	}
}

func (p *query) bool(key string, v bool) bool {
	p.read(key, func(s string) (err error) { v, err = strconv.ParseBool(s); return err })
	return v
}

func (p *query) int(key string, v int64) int64 {
	p.read(key, func(s string) (err error) { v, err = strconv.ParseInt(s, 10, 64); return err })
	return v
}

func (p *query) float(key string, v float64) float64 {
	p.read(key, func(s string) (err error) { v, err = strconv.ParseFloat(s, 64); return err })
	return v
}

func (p *query) duration(key string, v time.Duration) time.Duration {
	p.read(key, func(s string) (err error) { v, err = time.ParseDuration(s); return err })
	return v
}
