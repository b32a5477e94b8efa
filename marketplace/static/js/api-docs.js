// Draws the OpenAPI document. The key that a reader enters stays in this page's memory.
const place = document.getElementById("api-docs");

window.SwaggerUIBundle({
  url: place.dataset.schema,
  domNode: place,
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  persistAuthorization: false,
  validatorUrl: null, // It would send the document to another host.
});

// Swagger UI goes dark by a class; the site, by its own toggle or the system's wish.
const system = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => {
  const chosen = document.documentElement.dataset.theme;
  document.documentElement.classList.toggle("dark-mode", chosen ? chosen === "dark" : system.matches);
};
follow();
system.addEventListener("change", follow);
new MutationObserver(follow).observe(document.documentElement, { attributeFilter: ["data-theme"] });
