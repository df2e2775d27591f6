// Drawn skin: two tones over a smooth form, a blush, no pores.
layout(location = 0) out vec4 albedo_out; layout(location = 1) out vec4 light_out; layout(location = 2) out vec4 gloss_out;
uniform vec3 head_centre; uniform float face_top;

void main() {
    vec3 V = normalize(camera - P), n = dot(N, N) > 1e-8 ? normalize(N) : V;
    if (dot(n, V) < -.2) n = -n;
    float surface = 2., blush = 0., lip = 0., edge = below_neckline();
    vec3 albedo;
    vec3 round = normalize(P - head_centre);
    if (edge > 0.) {
        albedo = cloth * .95; surface = 7.;
    } else {
        albedo = mean_skin;
        if (!on_head() && (AO.y < -.25 || B.y > 7.05)) surface = B.y > 7.05 ? 3. : 4.;  // sockets, the mouth's inside
        if (on_head()) {
            vec2 c = island(); vec4 t = texture(skin_relief, c);
            albedo = mix(albedo, pow(textureLod(skin_colour, c, 3.).rgb, vec3(2.)), .45);
            lip = smoothstep(.3, .7, t.b);
            if (B.y < face_top && t.a > .5) surface = 1.;
            blush = exp(-dot(vec2(abs(B.x) - .44, B.y - 6.93), vec2(abs(B.x) - .44, B.y - 6.93)) * 40.) * step(.7, B.z);
            n = normalize(mix(n, round, .85));
            // The nose is a small shade under its tip.
            vec2 tip = vec2(B.x * 1.6, (B.y - 6.905) * 2.6);
            albedo *= 1. - .32 * smoothstep(.055, .035, length(tip)) * step(1.3, B.z);
        } else n = normalize(mix(n, round, .25));
        // Drawn people are lighter and cleaner than filmed ones.
        albedo = pow(albedo, vec3(.72)) * vec3(1.02, .98, .97);
        albedo = mix(albedo, albedo * vec3(1.05, .68, .66), .55 * blush);
        albedo = mix(albedo, albedo * vec3(.93, .55, .56), .55 * lip);
    }
    // A drawn nose throws no shadow on the face; hair and chin do.
    float thrown = surface == 1. ? smoothstep(7.25, 7.45, B.y) : 1.;
    float lit = smoothstep(-.03, .03, dot(n, key_direction) - .02) * mix(1., smoothstep(.35, .65, shadow(P, normalize(N))), thrown);
    vec3 ambient = (sky_colour + ground_colour) * .55 + fill_colour * .8;
    vec3 shade = key_colour * mix(vec3(.36, .25, .29), vec3(.78), lit) + ambient;
    float rim = smoothstep(.62, .70, 1. - dot(normalize(N), V)) * smoothstep(.0, .1, dot(normalize(N), rim_direction));
    albedo_out = vec4(albedo, 1);
    light_out = vec4(shade + rim * rim_colour * .6, 0);
    gloss_out = vec4(0, 0, 0, surface);
}
