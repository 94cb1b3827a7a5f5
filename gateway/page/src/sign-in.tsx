// The forms by which somebody comes in: the first user, an account, an API key.
import { useState, type FormEvent, type ReactNode } from "react";
import { Faulty, session } from "./session";

interface Field {
  name: string;
  label: string;
  type?: "email" | "password" | "text";
  autoComplete?: string;
  hint?: string;
  optional?: boolean;
  value?: string;
}

interface FormProps {
  fields: Field[];
  action: string;
  send(values: Record<string, string>): Promise<void>;
}

/** A form that says beside each field what is wrong with it, and below it what else is. */
function Form({ fields, action, send }: FormProps) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const wrong = error instanceof Faulty ? error.fields : new Map<string, string>();
  const shown = fields.some(({ name }) => wrong.has(name));
  const submit = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const values = Object.fromEntries([...new FormData(event.currentTarget)].map(([name, value]) => [name, String(value).trim()]).filter(([, value]) => value));
    // A password is what was typed, to the last space.
    if (values.password) values.password = String(new FormData(event.currentTarget).get("password"));
    setBusy(true);
    setError(null);
    try {
      await send(values);
    } catch (error) {
      setError(error);
      setBusy(false);
    }
  };
  return (
    <form className="weft-form" onSubmit={(event) => void submit(event)}>
      {fields.map(({ name, label, type = "text", autoComplete = "off", hint, optional, value }, at) => (
        <label key={name} className="weft-field">
          <span className="weft-label">
            {label}
            {optional && <span className="weft-quiet"> (optional)</span>}
          </span>
          <input
            name={name}
            type={type}
            autoComplete={autoComplete}
            defaultValue={value}
            required={!optional}
            autoFocus={at === 0}
            spellCheck={false}
            aria-invalid={wrong.has(name)}
            aria-describedby={wrong.has(name) ? `wrong-${name}` : undefined}
          />
          {wrong.has(name) ? <span className="weft-wrong" id={`wrong-${name}`}>{wrong.get(name)}</span> : hint && <span className="weft-hint">{hint}</span>}
        </label>
      ))}
      {error !== null && !shown && <p className="weft-wrong" role="alert">{error instanceof Error ? error.message : String(error)}</p>}
      <button type="submit" className="weft-main" disabled={busy}>{busy ? "One moment…" : action}</button>
    </form>
  );
}

function Card({ title, children }: { title: string; children: ReactNode }) {
  return (
    <main className="weft-card">
      <img src="page/icon.svg" alt="" width={40} height={40} />
      <h1>{title}</h1>
      {children}
    </main>
  );
}

const TENANT: Field = { name: "tenant", label: "Tenant", optional: true, hint: "Its short name; left out: the one last used." };

interface SignInProps {
  needsSetup: boolean;
  /** From the link that the server printed. */
  token: string | null;
  /** What to say first. */
  notice: string | null;
  /** On to the page without a credential. */
  skip(): void;
  /** The first user is made. */
  done(): void;
}

/** The way in. */
export function SignIn({ needsSetup, token, notice, skip, done }: SignInProps) {
  const [withKey, setWithKey] = useState(false);
  const told = notice && <p className="weft-notice" role="status">{notice}</p>;
  if (needsSetup) {
    const fields: Field[] = [
      { name: "email", label: "E-mail", type: "email", autoComplete: "username" },
      { name: "password", label: "Password", type: "password", autoComplete: "new-password", hint: "At least 10 characters, and none of the common ones." },
      { name: "name", label: "Your name", autoComplete: "name" },
      { name: "tenantName", label: "Name of your team", hint: "The first tenant. You own it." },
    ];
    if (!token) fields.push({ name: "token", label: "Set-up token", optional: true, hint: "Printed when the server starts; not needed on the machine itself." });
    return (
      <Card title="Set up Weft">
        {told}
        <p>Nobody is here yet. Make the first account; others are invited later.</p>
        <Form key="set-up" fields={fields} action="Set up" send={async ({ email = "", password = "", name = "", tenantName = "", token: typed }) => {
          const given = token ?? typed;
          await session.setUp({ email, password, name, tenantName, ...(given && { token: given }) });
          done();
        }} />
        <button type="button" className="weft-link" onClick={skip}>Look at the schema first</button>
      </Card>
    );
  }
  return (
    <Card title="Sign in to Weft">
      {told}
      {token && <p className="weft-notice" role="status">This server is set up already: the link is of no use any more.</p>}
      {withKey ? (
        <Form key="key" fields={[{ name: "key", label: "API key", type: "password", hint: "Kept in this tab until it is closed." }]} action="Use this key"
          send={({ key = "" }) => session.useKey(key)} />
      ) : (
        <Form key="sign-in" action="Sign in" send={({ email = "", password = "", tenant }) => session.signIn({ email, password, ...(tenant && { tenant }) })}
          fields={[
            { name: "email", label: "E-mail", type: "email", autoComplete: "username" },
            { name: "password", label: "Password", type: "password", autoComplete: "current-password" },
            TENANT,
          ]} />
      )}
      <p className="weft-ways">
        <button type="button" className="weft-link" onClick={() => setWithKey(!withKey)}>{withKey ? "Use a password" : "Use an API key"}</button>
        <button type="button" className="weft-link" onClick={skip}>Go on without signing in</button>
      </p>
    </Card>
  );
}
