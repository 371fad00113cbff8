package prober

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
)

// TagHeader is the response header in which a workload says what it is (a version, a pod).
const TagHeader = "X-Rebound-Tag"

// maxBody bounds how much of an answer is read, in bytes.
const maxBody = 1 << 20

// HTTP are the parameters of the http probe.
type HTTP struct {
	// Service is WORKLOAD/SERVICE or WORKLOAD/SERVICE:PORT, the port by name or number; without one it is the service's
	// port called "http", or else its first.
	Service string `json:"service"`
	// Path is asked for, with its query; "/" where absent. Method is GET where absent.
	Path    string            `json:"path,omitempty"`
	Method  string            `json:"method,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	Body    string            `json:"body,omitempty"`
	Expect  Expect            `json:"expect,omitzero"`
	// Scheme is "http" (where absent) or "https"; SkipVerify accepts any certificate.
	Scheme     string `json:"scheme,omitempty"`
	SkipVerify bool   `json:"skipVerify,omitempty"`
}

// Expect is what makes an answer good.
type Expect struct {
	// Status is the one good status; any 2xx where absent. Redirects are never followed.
	Status int `json:"status,omitempty"`
	// Body is a text that the first MiB of the body must contain.
	Body string `json:"body,omitempty"`
}

// Validate implements Params.
func (h *HTTP) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...)))
	}
	workload, service, ok := strings.Cut(h.Service, "/")
	if !ok || workload == "" || service == "" || strings.Contains(service, "/") {
		bad("service is WORKLOAD/SERVICE or WORKLOAD/SERVICE:PORT, not %q", h.Service)
	}
	if h.Path != "" && !strings.HasPrefix(h.Path, "/") {
		bad("path %q does not begin with /", h.Path)
	}
	if _, err := url.ParseRequestURI(h.path()); err != nil {
		bad("path %q: %v", h.Path, err)
	}
	if h.Scheme != "" && h.Scheme != "http" && h.Scheme != "https" {
		bad("scheme is http or https, not %q", h.Scheme)
	}
	if s := h.Expect.Status; s != 0 && (s < 100 || s > 599) {
		bad("expected status %d is no HTTP status", s)
	}
	if _, err := h.request("127.0.0.1:80"); err != nil {
		bad("%v", err)
	}
	return errors.Join(errs...)
}

// Target implements Params.
func (h *HTTP) Target() string { return h.Service }

func (h *HTTP) path() string {
	if h.Path == "" {
		return "/"
	}
	return h.Path
}

func (h *HTTP) request(address string) (*http.Request, error) {
	scheme, method := h.Scheme, h.Method
	if scheme == "" {
		scheme = "http"
	}
	if method == "" {
		method = http.MethodGet
	}
	var body io.Reader
	if h.Body != "" {
		body = strings.NewReader(h.Body)
	}
	req, err := http.NewRequest(method, scheme+"://"+address+h.path(), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "rebound-prober")
	for name, value := range h.Headers {
		if strings.EqualFold(name, "Host") {
			req.Host = value
			continue
		}
		req.Header.Set(name, value)
	}
	return req, nil
}

// Asker implements Params.
func (h *HTTP) Asker(address string, connections Connections) (Asker, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("%w: address %q is not IP:port: %w", ErrInvalid, address, err)
	}
	bound := *h
	bound.Headers = maps.Clone(h.Headers)
	dialer := &net.Dialer{KeepAlive: -1}
	tlsConfig := &tls.Config{InsecureSkipVerify: h.SkipVerify}
	for name, value := range h.Headers {
		if strings.EqualFold(name, "Host") {
			tlsConfig.ServerName = hostOnly(value)
		}
	}
	return &httpAsker{
		params: bound, address: address,
		transport: &http.Transport{
			DialContext:         dialer.DialContext,
			DisableKeepAlives:   connections == New,
			DisableCompression:  true,
			TLSClientConfig:     tlsConfig,
			MaxIdleConnsPerHost: 1024,
			IdleConnTimeout:     time.Minute,
		},
	}, nil
}

func hostOnly(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return hostport
}

type httpAsker struct {
	params    HTTP
	address   string
	transport *http.Transport
}

// Close ends idle connections.
func (a *httpAsker) Close() error {
	a.transport.CloseIdleConnections()
	return nil
}

// Ask implements Asker. It goes through the bare transport: no redirects, no cookies, no proxy.
func (a *httpAsker) Ask(ctx context.Context, _ uint64) Answer {
	req, err := a.params.request(a.address)
	if err != nil {
		return Answer{Error: "other"}
	}
	resp, err := a.transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return Answer{Error: Classify(err)}
	}
	answer := Answer{Status: resp.StatusCode, Tag: resp.Header.Get(TagHeader)}
	// The answer counts once it is complete, as it does for a client.
	body, readErr := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	closeErr := resp.Body.Close()
	switch err := errors.Join(readErr, closeErr); {
	case err != nil:
		answer.Error = Classify(err)
	case !a.params.Expect.status(resp.StatusCode):
		answer.Error = "status"
	case !bytes.Contains(body, []byte(a.params.Expect.Body)):
		answer.Error = "body"
	}
	return answer
}

func (e Expect) status(got int) bool {
	if e.Status != 0 {
		return got == e.Status
	}
	return got/100 == 2
}

// Classify names the class of a network error, as assertions.Sample lists them.
func Classify(err error) string {
	var (
		dns     *net.DNSError
		timeout interface{ Timeout() bool }
	)
	switch {
	case errors.As(err, &dns):
		return "dns"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return "reset"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "unreachable"
	}
	return "other"
}

// ForURL returns the configuration of a probe of one URL: its host is resolved once, here, and asked by address from
// then on, with the host's name in the request. Interval, timeout and the rest are left to the caller.
func ForURL(ctx context.Context, raw string) (Config, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return Config{}, fmt.Errorf("%w: %q is no http or https URL", ErrInvalid, raw)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return Config{}, fmt.Errorf("resolve %s: %w", u.Hostname(), err)
	}
	params := &HTTP{
		Service: "url/" + u.Hostname(), Path: u.RequestURI(), Scheme: u.Scheme, Headers: map[string]string{"Host": u.Host},
	}
	encoded, err := json.Marshal(params)
	if err != nil {
		return Config{}, fmt.Errorf("encode parameters: %w", err)
	}
	return Config{
		Probe: u.Redacted(), Vantage: "host", Type: "http", Params: encoded,
		Address: net.JoinHostPort(addrs[0].Unmap().String(), port),
	}, nil
}
