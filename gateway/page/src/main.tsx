// Where the page begins. Nothing of its address is run: of the fragment only a set-up token is taken, for a form that somebody has
// to fill in and send.
import { createRoot } from "react-dom/client";
import "graphiql/style.css";
import "@graphiql/plugin-explorer/style.css";
import "./page.css";
import { App } from "./app";
import { session } from "./session";

/** Takes the token out of the address, and with it everything else, before it is shown or kept anywhere. */
function setupToken(): string | null {
  const { hash, search, pathname } = location;
  if (hash || search) history.replaceState(null, "", pathname);
  try {
    return decodeURIComponent(/^#setup=(.{1,1024})$/.exec(hash)?.[1] ?? "") || null;
  } catch {
    return null;
  }
}

const root = createRoot(document.getElementById("page")!);
const show = () => root.render(<App token={token} />);
let token = setupToken();
// The link may be opened where the page is already: then nothing is loaded anew.
addEventListener("hashchange", () => {
  token = setupToken() ?? token;
  show();
});
void session.begin();
show();
