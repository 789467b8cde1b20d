// The one Trusted Types policy. htmx inserts HTML that this server rendered; code from text and
// scripts from other origins stay refused. It is no sanitiser: hostile text is escaped on the server.
if (window.trustedTypes) {
  window.trustedTypes.createPolicy("default", {
    createHTML: (text) => text,
    createScript: () => null,
    createScriptURL: (url) => (new URL(url, location.origin).origin === location.origin ? url : null),
  });
}
