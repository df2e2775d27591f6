layout(location = 0) out vec4 albedo_out; layout(location = 1) out vec4 light_out; layout(location = 2) out vec4 gloss_out;
uniform float bump, face_top;

vec3 bumped(vec2 c, vec3 n, float height) {
    // Mikkelsen 2010: surface gradient from screen-space differences.
    float hx = texture(skin_relief, c + dFdx(c)).r, hy = texture(skin_relief, c + dFdy(c)).r;
    vec3 px = dFdx(P), py = dFdy(P), r1 = cross(py, n), r2 = cross(n, px);
    float det = dot(px, r1);
    vec3 m = abs(det) * n - sign(det) * ((hx - height) * r1 + (hy - height) * r2) * bump;
    return dot(m, m) > 1e-16 ? normalize(m) : n;
}
float folds(vec3 q) { return value_noise(q) + .5 * value_noise(q * 2.3); }

void main() {
    vec3 V = normalize(camera - P);
    vec3 n = dot(N, N) > 1e-8 ? normalize(N) : V;
    if (dot(n, V) < -.2) n = -n;
    float ao = AO, rough = .5, lip = 0., gloss = 1.;
    vec3 albedo, nb = n;
    float depth = below_neckline();
    bool dressed = depth > 0.;
    // Class of the surface: 1 face, 2 other skin, 7 cloth. The face ends below the hairline on the forehead.
    float surface = dressed ? 7. : 2.;
    if (dressed) {
        albedo = cloth * (value_noise(B * 110.) * .22 + value_noise(B * 3.) * .06 + .80);
        rough = .85; gloss = .35;
        float e = .02; vec3 q = B * vec3(3.2, 2.0, 3.2); float h0 = folds(q);
        vec3 g = vec3(folds(q + vec3(e, 0, 0)) - h0, folds(q + vec3(0, e, 0)) - h0, folds(q + vec3(0, 0, e)) - h0) / e;
        nb = normalize(n - .22 * (g - n * dot(g, n)));
        albedo *= mix(.75, 1., smoothstep(.0, .05, depth));
        ao *= mix(.7, 1., smoothstep(0., .02, depth));
    } else if (on_head()) {
        vec2 c = island(); vec4 a = texture(skin_colour, c), t = texture(skin_relief, c);
        albedo = pow(a.rgb, vec3(2.2)); rough = a.a; lip = t.g; gloss = 1. - .8 * t.b;
        nb = bumped(c, n, t.r);
        if (B.y < face_top && t.a > .5) surface = 1.;
    } else { albedo = mean_skin * (.94 + .12 * value_noise(B * 9.)); rough = .55; }
    if (!dressed) ao *= mix(.55, 1., smoothstep(0., -.10, depth));
    float lit = shadow(P, n);
    vec3 shade = pow(vec3(lit), vec3(.65, 1., 1.15));
    // Red light scatters further under the skin: softer normals and more wrap for red than for blue.
    vec3 nr = normalize(mix(nb, n, dressed ? 0. : .75)), ng = normalize(mix(nb, n, dressed ? 0. : .45));
    vec3 nl = normalize(mix(nb, n, dressed ? 0. : .25));
    vec3 wrap = dressed ? vec3(.05) : vec3(.38, .20, .13);
    vec3 d = clamp((vec3(dot(nr, key_direction), dot(ng, key_direction), dot(nl, key_direction)) + wrap) / (1. + wrap), 0., 1.);
    d *= mix(vec3(1), d, .25);
    vec3 aoc = pow(vec3(ao), dressed ? vec3(1.1) : vec3(.85, 1.15, 1.25));
    vec3 rim = vec3(clamp((dot(nr, rim_direction) + .2) / 1.2, 0., 1.)) * rim_colour;
    vec3 light = d * shade * key_colour * mix(vec3(1), aoc, .35) + surround(nl) * aoc + rim * aoc;
    vec3 H = normalize(key_direction + V);
    float f = .028 + .972 * schlick(dot(H, V)), lambert = clamp(dot(nb, key_direction), 0., 1.);
    float lobe = mix(ggx(nb, H, rough * rough), ggx(nb, H, rough * rough * .36), .18) * f / (4. * max(dot(nb, V), .25));
    float fe = .028 + .25 * schlick(dot(nb, V)) * (1. - rough * .7);
    vec3 spec = gloss * (lobe * lambert * lit * key_colour * 1.15 * (1. + .5 * lip) + surround(reflect(-V, nb)) * fe * ao * ao * 1.1);
    vec3 Hr = normalize(rim_direction + V);
    spec += gloss * rim_colour * ggx(nb, Hr, rough * rough) * (.028 + .972 * schlick(dot(Hr, V))) / (4. * max(dot(nb, V), .3))
          * clamp(dot(nb, rim_direction), 0., 1.) * ao;
    albedo_out = vec4(albedo, 1); light_out = vec4(light, dressed ? 0. : 1.); gloss_out = vec4(spec, surface);
}
