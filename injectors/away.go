package injectors

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"syscall"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// apiAway says whether a step failed because the API server does not answer (yet), judged by types alone. A network
// error counts where the step needs the API server or does not say what it needs: that of a step that works through
// the node alone is about the node.
func apiAway(s Step, err error) bool {
	if errors.Is(err, ErrNeedsAPI) {
		return true
	}
	if !s.needsAPI() && len(s.Needs) > 0 {
		return false
	}
	return serverAway(err) || networkAway(err) || s.needsAPI() && errors.Is(err, context.DeadlineExceeded)
}

// serverAway: somebody answered, and could not serve. An internal error is among them: without etcd, the API server
// answers with one.
func serverAway(err error) bool {
	return apierrors.IsServiceUnavailable(err) || apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) ||
		apierrors.IsTooManyRequests(err) || apierrors.IsInternalError(err)
}

// networkAway: nobody answered. net/http reports whatever keeps a request from being answered as a url.Error.
func networkAway(err error) bool {
	if errors.Is(err, context.Canceled) {
		return false
	}
	var request *url.Error
	var network net.Error
	var dial *net.OpError
	if errors.As(err, &request) || errors.As(err, &dial) {
		return true
	}
	// The end of a step's own context calls itself a network timeout too; it says nothing about the network.
	if errors.As(err, &network) && network.Timeout() && !errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	for _, e := range []error{
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, syscall.ETIMEDOUT,
		syscall.EHOSTUNREACH, syscall.ENETUNREACH, net.ErrClosed, io.ErrUnexpectedEOF,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// stillComing says whether a parked step is worth another try: while an API server starts, its access rules and
// admission are not loaded yet, and it refuses what it will allow in a second.
func stillComing(s Step, err error) bool {
	return apiAway(s, err) || apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err)
}
